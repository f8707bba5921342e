"""Training: rows that are no rows, and training states that are damaged."""

import gzip
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from case import DAMAGED, DOUBTFUL, FINE, REFUSED, UNWRITABLE, Case, Damage, Outcome
from damage import KINDS, LINES, SLOW, VALUES, both, content, dump, kind, third, value, write
from parts import TRAIN

from attacks.checkpoints import CHECK


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _training_rows()
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
    finetune = (*TRAIN, "--dry-run")
    mine = (
        "mine",
        "-m",
        "ckpt",
        "--data",
        "groups.jsonl",
        "--corpus",
        "self",
        "--output",
        "out/mined.jsonl",
        "--offline",
        "-q",
    )
    overlap = ("overlap", "--train", "groups.jsonl", "-d", "collection", "--offline", "--json")
    commands = {"finetune": finetune, "mine": mine, "overlap": overlap}
    for command, words in commands.items():
        for name, line in LINES.items():
            if name in SLOW and command != "overlap":
                continue
            yield Case(
                id=f"collection/training rows/{name}/{command}",
                words=words,
                parts=("collection", "templated"),
                damage=content("groups.jsonl", line.change),
                codes=FINE if line.kept else DAMAGED,
            )
        for name, (row, codes) in _ROWS.items():
            damage = content("groups.jsonl", third(lambda line, row=row: dump(row)))
            if command == "overlap" and name in ("no pos",):
                codes = DOUBTFUL
            yield Case(
                id=f"collection/training rows/{name}/{command}",
                words=words,
                parts=("collection", "templated"),
                damage=damage,
                codes=codes,
            )
        for name in KINDS:
            codes = REFUSED
            yield Case(
                id=f"collection/training rows are/{name}/{command}",
                words=words,
                parts=("collection", "templated"),
                damage=kind("groups.jsonl", name),
                codes=codes,
            )
    for name, line in LINES.items():
        if name not in SLOW:
            yield Case(
                id=f"collection/texts to check/{name}",
                words=(*CHECK, "--text-file", "texts.txt"),
                parts=("templated",),
                damage=both(write("texts.txt", "one\ntwo\nthree\nfour\n"), content("texts.txt", line.change)),
                codes=FINE if line.kept or name in ("CR only", "half a line") else DOUBTFUL,
            )


def same_weights(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that the weights are those of a run that nothing disturbed."""
    if outcome.code:
        return
    import parts
    from safetensors.torch import load_file

    whole = parts.make("trained", room.parents[1] / "parts", _no_command)
    now, then = (load_file(folder / "out/tuned/model.safetensors") for folder in (room, whole))
    if any(not (now[name] == tensor).all() for name, tensor in then.items()):
        yield "other weights than without the damage, and nothing was said"


def _states() -> Iterator[Case]:
    """Yield damaged training states: they are named, or the run ends with the weights of a whole one."""

    yield Case(
        id="caches/states/whole", words=TRAIN, parts=("unfinished", "trained-only"), check=same_weights
    )
    for pattern in ("*.safetensors", "run.json"):
        for how in ("bit 0", "bit 1", "bit 2", "bit 3", "bit 4", "bit 5", "cut", "NULs", "garbage", *KINDS):
            yield Case(
                id=f"caches/states/{pattern}/{how}",
                words=TRAIN,
                parts=("unfinished", "trained-only"),
                damage=_in_state(pattern, how),
                codes=DOUBTFUL | REFUSED,
                check=same_weights,
            )
    for name, new in VALUES.items():
        for key in ("step", "identity", "identity.base"):
            yield Case(
                id=f"caches/states/run.json {key}={name}",
                words=TRAIN,
                parts=("unfinished", "trained-only"),
                damage=_state_value(key, new),
                codes=REFUSED | FINE,
                check=same_weights,
            )


def _no_command(room: Path, words: tuple[str, ...]) -> None:
    raise AssertionError("the part is made before the case")


def _state_file(room: Path, pattern: str) -> Path:
    return sorted((room / "out/tuned/state").glob(f"step-*/{pattern}"))[-1]


def _in_state(pattern: str, how: str) -> Damage:
    def damage(room: Path) -> None:
        path = _state_file(room, pattern)
        old = path.read_bytes()
        if how.startswith("bit"):
            drawn = random.Random(how)
            position = drawn.randrange(8 * (len(old) // 2), 8 * len(old))
            new = bytearray(old)
            new[position // 8] ^= 1 << position % 8
            path.write_bytes(new)
        elif how in ("cut", "NULs", "garbage"):
            changes = {"cut": old[: len(old) // 2], "NULs": b"\0" * len(old), "garbage": old[::-1]}
            path.write_bytes(changes[how])
        else:
            KINDS[how](path)

    return damage


def _state_value(key: str, new: Any) -> Damage:
    def damage(room: Path) -> None:
        path = _state_file(room, "run.json")
        value(str(path.relative_to(room)), key, new)(room)

    return damage


def _row_caches() -> Iterator[Case]:
    """Yield damaged caches of rows: the unpacked copy of a gzipped file, and the positions of its lines."""
    words = tuple("groups.jsonl.gz" if word == "groups.jsonl" else word for word in TRAIN)

    def packed(room: Path) -> None:
        (room / "groups.jsonl.gz").write_bytes(gzip.compress((room / "groups.jsonl").read_bytes(), mtime=0))
        (room / "groups.jsonl").unlink()

    for file in ("*.jsonl", "*.npy"):
        for how in ("letter", "cut", "NULs", "garbage", "a folder", "a FIFO", "a link to itself"):
            yield Case(
                id=f"caches/rows/{file}/{how}",
                words=words,
                parts=("training", "trained-only"),
                before=((("systems", "--json"), packed), ((*words, "--dry-run"), _in_rows(file, how))),
                codes=DOUBTFUL | UNWRITABLE if how in KINDS else DOUBTFUL,
                check=same_weights,
            )


def _in_rows(file: str, how: str) -> Damage:
    def damage(room: Path) -> None:
        path = sorted((room / "home/training").glob(file))[0]
        old = path.read_bytes()
        changes = {
            "letter": old.replace(b"moon", b"mood") if file == "*.jsonl" else old[:-8] + old[-16:-8],
            "cut": old[: len(old) // 2],
            "NULs": b"\0" * len(old),
            "garbage": old[::-1],
        }
        if how in changes:
            path.write_bytes(changes[how])
        else:
            KINDS[how](path)

    return damage
