"""Stored results: records, per-query values, runs and findings with values that nobody wrote."""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from case import (
    DAMAGED,
    DOUBTFUL,
    FINE,
    HARMLESS_OR_PARTIAL,
    PARTIAL,
    USAGE,
    Case,
    Check,
    Damage,
    Outcome,
    replaced,
    shell,
    unchecked,
)
from damage import (
    JSON_FILES,
    QUICK_LINES,
    STAND_INS,
    VALUES,
    Change,
    changed,
    spoiled,
    third,
    together,
    usual_and_two_more,
    value,
    write,
)
from parts import EVALUATE

RESULT = "runs/first/collection/result.json"
_PER_QUERY, _RUN = "runs/first/collection/per_query.tsv", "runs/first/collection/run.trec.gz"

_FINDING = "runs/overlap/*.json"

BOARD = shell("leaderboard --runs-dir runs --output out/board.md")
AUDIT = (*BOARD, "--check")
COMPARE = shell("compare first second -d collection --runs-dir runs --json")
_KEPT = (*EVALUATE, "--runs-dir", "runs", "--name", "first", "--json")
"""Finds the stored result of the first system, so that nothing is measured again."""

_AUDITED = frozenset({5, 6})
"""The exit codes of an audit that finds a difference."""

_KEYS = (
    "system dataset split n_queries n_documents depth measures measures.nDCG@10 measures.nDCG@10.mean "
    "measures.nDCG@10.low measures.evil ties_at_10 settings settings_passed drop_own_ids dataset_fingerprint "
    "qrels_fingerprint run_sha256 warnings phases provenance provenance.date provenance.git "
    "provenance.git.commit schema dataset_source settings.templates settings.templates.query "
    "settings.templates.query.prompt settings.templates.query.prefix settings.templates.query.slots "
    "settings.titles settings.dtype settings.runtime settings.training_files settings.checkpoint_sha256 "
    "settings.prompts settings.prompts_from provenance.options unknown"
)

_USUAL = ("null", "big", "large", "text", "list", "surrogate", "escape")
"""The values of :data:`damage.VALUES` that each key gets; the others go round among the keys."""


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _values()
    yield from _whole()
    yield from _tables()
    yield from _findings()
    yield from _configs()


def _case(
    name: str,
    words: tuple[str, ...],
    damage: Damage,
    codes: frozenset[int],
    check: Check = unchecked,
) -> Case:
    """Return a case of stored results."""
    return Case(
        id=f"results/{name}",
        words=words,
        parts=("evaluated",),
        damage=damage,
        codes=codes,
        check=check,
        writes=("runs",) if words == _KEPT else (),
    )


def _values() -> Iterator[Case]:
    commands: Mapping[str, tuple[tuple[str, ...], frozenset[int]]] = {
        "leaderboard": (BOARD, HARMLESS_OR_PARTIAL),
        "check": (AUDIT, _AUDITED),
        "compare": (COMPARE, DOUBTFUL | USAGE),
        "kept": (_KEPT, DOUBTFUL | USAGE),
    }
    for number, key in enumerate(_KEYS.split()):
        for position, name in enumerate(usual_and_two_more(_USUAL, number)):
            # the leaderboard reads each damaged result, and the other commands take turns
            for command in dict.fromkeys(("leaderboard", [*commands][(number + position) % 4])):
                damage = value(RESULT, key, VALUES[name])
                yield _case(f"{key}={name}/{command}", commands[command][0], damage, commands[command][1])


def _whole() -> Iterator[Case]:
    damages: dict[str, Damage] = {name: changed(RESULT, change) for name, change in JSON_FILES.items()}
    damages |= {f"is {name}": spoiled(RESULT, name) for name in STAND_INS}
    for key in ("system", "measures", "run_sha256", "schema", "provenance", "settings"):
        damages[f"lacks {key}"] = value(RESULT, key, ...)
    for name, damage in damages.items():
        gone = name == "is missing"
        yield _case(f"whole/{name}/leaderboard", BOARD, damage, FINE if gone else PARTIAL)
        yield _case(f"whole/{name}/compare", COMPARE, damage, DAMAGED)
        yield _case(f"whole/{name}/kept", _KEPT, damage, FINE if gone else DAMAGED)
    every = together(*(spoiled(RESULT.replace("first", system), "cut") for system in ("first", "second")))
    yield _case("whole/every result is damaged", BOARD, every, PARTIAL)
    extra = value(RESULT, "measures.Nonsense@10", {"mean": 0.5, "low": 0.4, "high": 0.6})
    yield _case("whole/an unknown measure/leaderboard", BOARD, extra, FINE)
    yield _case("whole/an unknown measure/check", AUDIT, _with_board(extra), _AUDITED, _other_audited)


def _other_audited(room: Path, outcome: Outcome) -> Iterator[str]:
    if b"scored again" not in outcome.stdout:
        yield "the result that is whole was not scored again"


def _tables() -> Iterator[Case]:
    """Yield damaged tables of per-query values and damaged runs."""
    cells: Mapping[str, Change] = {
        "NaN": third(lambda line: line[: line.rindex(b"\t")] + b"\tnan"),
        "infinity": third(lambda line: line[: line.rindex(b"\t")] + b"\tinf"),
        "no number": third(lambda line: line[: line.rindex(b"\t")] + b"\tx"),
        "a column more": third(lambda line: line + b"\t0.5"),
        "a column less": third(lambda line: line[: line.rindex(b"\t")]),
        "a line twice": third(lambda line: line + b"\n" + line),
        "the header alone": lambda old: old.split(b"\n")[0] + b"\n",
    }
    lines = {name: variant.change for name, variant in QUICK_LINES.items()}
    for name, change in {**lines, **cells}.items():
        kept = name == "CR only" or (name in QUICK_LINES and QUICK_LINES[name].kept)
        damage = changed(_PER_QUERY, change)
        yield _case(f"per_query/{name}/compare", COMPARE, damage, DOUBTFUL if kept else DAMAGED)
        codes = _AUDITED | FINE if kept else _AUDITED
        yield _case(f"per_query/{name}/check", AUDIT, _with_board(damage), codes)
    runs = {name: changed(_RUN, change) for name, change in lines.items()}
    runs |= {f"is {name}": spoiled(_RUN, name) for name in STAND_INS}
    runs |= {
        "not gzip": lambda room: (room / _RUN).write_bytes(gzip.decompress((room / _RUN).read_bytes())),
        "cut": lambda room: (room / _RUN).write_bytes((room / _RUN).read_bytes()[:-9]),
        "a bomb": lambda room: (room / _RUN).write_bytes(gzip.compress(b"q" * (1 << 28))),
    }
    for name, damage in runs.items():
        yield _case(f"run/{name}/check", AUDIT, _with_board(damage), _AUDITED)
    for name in STAND_INS:
        yield _case(f"per_query is/{name}/compare", COMPARE, spoiled(_PER_QUERY, name), DAMAGED)


def _with_board(damage: Damage) -> Damage:
    """Return a damage with a leaderboard beside it; its text does not matter, since the damage is found."""
    return together(damage, write("out/board.md", "# Leaderboard\n"))


def _findings() -> Iterator[Case]:
    for key in ("file", "sha256", "texts", "tested", "tested.query", "seen", "seen.query", "dataset"):
        for name, new in VALUES.items():
            damage = together(_declared, value(_FINDING, key, new))
            yield _case(f"finding {key}={name}", BOARD, damage, HARMLESS_OR_PARTIAL)
    for name, change in JSON_FILES.items():
        yield _case(f"finding/{name}", BOARD, changed(_FINDING, change), PARTIAL)


def _declared(room: Path) -> None:
    """Let the first system declare the training file of the finding."""
    (path,) = room.glob(_FINDING)
    digest = json.loads(path.read_text())["sha256"]
    value(RESULT, "settings.training_files", {digest: "groups.jsonl"})(room)


def _configs() -> Iterator[Case]:
    words = shell("evaluate --config record.json -m ckpt -d collection --runs-dir out/runs --offline")

    def case(name: str, damage: Damage, codes: frozenset[int], file: str = "record.json") -> Case:
        return Case(
            id=f"results/config {name}",
            words=replaced(words, "record.json", file),
            parts=("collection", "templated"),
            damage=damage,
            codes=codes,
        )

    for name, new in VALUES.items():
        options = write("record.json", '{"provenance": {"options": {"command": "evaluate", "depth": 5}}}')
        damage = together(options, value("record.json", "provenance.options.depth", new))
        yield case(f"depth={name}", damage, FINE | USAGE | DAMAGED)
    for name, change in JSON_FILES.items():
        for file in ("record.json", "record.toml"):
            damage = together(write(file, '{"provenance": {"options": {}}}'), changed(file, change))
            empty = file == "record.toml" and name in ("no bytes", "blank")
            yield case(f"{file}/{name}", damage, USAGE | DAMAGED | FINE if empty else USAGE | DAMAGED, file)
    for name in STAND_INS:
        damage = together(write("record.json", "{}"), spoiled("record.json", name))
        yield case(f"is/{name}", damage, DAMAGED | USAGE)
