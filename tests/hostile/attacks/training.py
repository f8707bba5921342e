"""Training: rows that are no rows, and training states that are damaged."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import parts
from case import DAMAGED, DOUBTFUL, FINE, REFUSED, UNWRITABLE, Case, Damage, Outcome, intact, replaced, shell
from damage import (
    BYTES,
    LINES,
    QUICK_LINES,
    STAND_INS,
    VALUES,
    Change,
    Variant,
    changed,
    dump,
    flip,
    packed,
    spoiled,
    third,
    together,
    value,
    write,
)
from parts import MINE, OVERLAP, TRAIN

from attacks.checkpoints import CHECK


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _training_rows()
    yield from _texts()
    yield from _states()
    yield from _row_caches()


_ROWS: Mapping[str, tuple[Any, frozenset[int]]] = {
    "query of a number": ({"query": 7, "pos": ["a"]}, DAMAGED),
    "query of null": ({"query": None, "pos": ["a"]}, DAMAGED),
    "pos of a text": ({"query": "a", "pos": "a"}, DOUBTFUL),
    "pos of nulls": ({"query": "a", "pos": [None]}, DAMAGED),
    "no pos": ({"query": "a", "pos": []}, DAMAGED),
    "neg of numbers": ({"query": "a", "pos": ["a"], "neg": [1, 2]}, DAMAGED),
    "scores of texts": (
        {"query": "a", "pos": ["a"], "neg": ["b"], "pos_scores": ["x"], "neg_scores": ["y"]},
        DOUBTFUL,
    ),
    "surrogates": ({"query": "\ud800", "pos": ["a"], "neg": ["b"]}, DAMAGED),
    "controls": ({"query": "\x1b\x1f\0", "pos": ["a"], "neg": ["b"]}, FINE),
    "a list": (["a"], DAMAGED),
    "a number": (7, DAMAGED),
}


def _training_rows() -> Iterator[Case]:
    yield from _rows("finetune", (*TRAIN, "--dry-run"), QUICK_LINES)
    yield from _rows("mine", (*MINE, "--corpus", "self", "--output", "out/mined.jsonl"), QUICK_LINES)
    yield from _rows("overlap", (*OVERLAP, "--json"), LINES)


def _rows(command: str, words: tuple[str, ...], variants: Mapping[str, Variant]) -> Iterator[Case]:
    """Yield damaged files of training rows for one command."""

    def case(name: str, damage: Damage, codes: frozenset[int]) -> Case:
        return Case(
            id=f"collection/training rows{name}/{command}",
            words=words,
            parts=("collection", "templated"),
            damage=damage,
            codes=codes,
        )

    for name, variant in variants.items():
        yield case(f"/{name}", changed("groups.jsonl", variant.change), variant.codes)
    for name, (row, codes) in _ROWS.items():
        harmless = command == "overlap" and name in (
            "no pos",
            "surrogates",
        )  # neither is a text of a test set
        yield case(f"/{name}", _third_row(row), DOUBTFUL if harmless else codes)
    for name in STAND_INS:
        yield case(f" are/{name}", spoiled("groups.jsonl", name), REFUSED)


def _third_row(row: Any) -> Damage:
    return changed("groups.jsonl", third(lambda line: dump(row)))


def _texts() -> Iterator[Case]:
    """Yield files of texts to check."""
    for name, variant in QUICK_LINES.items():
        yield Case(
            id=f"collection/texts to check/{name}",
            words=(*CHECK, "--text-file", "texts.txt"),
            parts=("templated",),
            damage=together(
                write("texts.txt", "one\ntwo\nthree\nfour\n"), changed("texts.txt", variant.change)
            ),
            codes=FINE if variant.kept or name in ("CR only", "half a line") else DOUBTFUL,
        )


def same_weights(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that the weights are those of a run that nothing disturbed."""
    if outcome.code:
        return
    from safetensors.torch import load_file

    whole = parts.make("trained", room.parents[1] / "parts", _no_command)
    now, then = (load_file(folder / "out/tuned/model.safetensors") for folder in (room, whole))
    if any(not (now[name] == tensor).all() for name, tensor in then.items()):
        yield "other weights than without the damage, and nothing was said"


def _no_command(room: Path, words: tuple[str, ...]) -> None:
    raise AssertionError("the part is made before the case")


def _states() -> Iterator[Case]:
    """Yield damaged training states: they are named, or the run ends with the weights of a whole one."""

    def case(name: str, damage: Damage, codes: frozenset[int]) -> Case:
        return Case(
            id=f"caches/states/{name}",
            words=TRAIN,
            parts=("unfinished", "trained-only"),
            damage=damage,
            codes=codes,
            check=same_weights,
        )

    yield case("whole", intact, FINE)
    state = "out/tuned/state/step-*"
    for pattern in ("*.safetensors", "run.json"):
        file = f"{state}/{pattern}"
        for seed in range(6):
            yield case(f"{pattern}/bit {seed}", changed(file, _flip_second_half(seed)), DOUBTFUL | REFUSED)
        for name in (*BYTES, *STAND_INS):
            yield case(f"{pattern}/{name}", spoiled(file, name), DOUBTFUL | REFUSED)
    for name, new in VALUES.items():
        for key in ("step", "identity", "identity.base"):
            yield case(f"run.json {key}={name}", value(f"{state}/run.json", key, new), FINE | REFUSED)


def _flip_second_half(seed: int) -> Change:
    return lambda old: old[: len(old) // 2] + flip(seed)(old[len(old) // 2 :])


def _row_caches() -> Iterator[Case]:
    """Yield damaged caches of rows: the unpacked copy of a gzipped file, and the positions of its lines."""
    words = replaced(TRAIN, "groups.jsonl", "groups.jsonl.gz")
    others: Mapping[str, Change] = {
        "*.jsonl": lambda old: old.replace(b"moon", b"mood"),
        "*.npy": lambda old: old[:-8] + old[-16:-8],
    }
    for file, other in others.items():
        cache = f"home/training/{file}"
        damages = {"letter": changed(cache, other)}
        damages |= {name: spoiled(cache, name) for name in (*BYTES, *STAND_INS)}
        for name, damage in damages.items():
            yield Case(
                id=f"caches/rows/{file}/{name}",
                words=words,
                parts=("training", "trained-only"),
                before=((shell("systems --json"), packed("groups.jsonl")), ((*words, "--dry-run"), damage)),
                codes=DOUBTFUL | UNWRITABLE if name in STAND_INS else DOUBTFUL,
                check=same_weights,
            )
