"""Stored results: records, per-query values, runs and findings with values that nobody wrote."""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from case import DAMAGED, DOUBTFUL, FINE, HARMLESS_OR_PARTIAL, PARTIAL, USAGE, Case, Damage, Outcome
from damage import FILES, KINDS, LINES, SLOW, VALUES, both, content, kind, third, value, write
from parts import EVALUATE

RESULT = "runs/first/collection/result.json"
_PER_QUERY, _RUN = "runs/first/collection/per_query.tsv", "runs/first/collection/run.trec.gz"

BOARD = ("leaderboard", "--runs-dir", "runs", "--output", "out/board.md")
AUDIT = (*BOARD, "--check")
COMPARE = ("compare", "first", "second", "-d", "collection", "--runs-dir", "runs", "--json")
KEPT = (*EVALUATE[:7], "--offline", "--name", "first", "--json")

_KEYS = (
    *("system", "dataset", "split", "n_queries", "n_documents", "depth", "measures", "measures.nDCG@10"),
    *("measures.nDCG@10.mean", "measures.nDCG@10.low", "measures.evil", "ties_at_10", "settings"),
    *(
        "settings_passed",
        "drop_own_ids",
        "dataset_fingerprint",
        "qrels_fingerprint",
        "run_sha256",
        "warnings",
    ),
    *("phases", "provenance", "provenance.date", "provenance.git", "provenance.git.commit", "schema"),
    *("dataset_source", "settings.templates", "settings.templates.query", "settings.templates.query.prompt"),
    *(
        "settings.templates.query.prefix",
        "settings.templates.query.slots",
        "settings.titles",
        "settings.dtype",
    ),
    *("settings.runtime", "settings.training_files", "settings.checkpoint_sha256", "settings.prompts"),
    *("settings.prompts_from", "provenance.options", "unknown"),
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


def _values() -> Iterator[Case]:
    commands: Mapping[str, tuple[tuple[str, ...], frozenset[int]]] = {
        "leaderboard": (BOARD, HARMLESS_OR_PARTIAL),
        "check": (AUDIT, frozenset({5, 6})),
        "compare": (COMPARE, DOUBTFUL | USAGE),
        "kept": (KEPT, DOUBTFUL | USAGE),
    }
    others = [name for name in VALUES if name not in _USUAL]
    for number, key in enumerate(_KEYS):
        chosen = [*_USUAL, *(others[(number + shift) % len(others)] for shift in (0, 5))]
        for position, name in enumerate(chosen):
            for command, (words, codes) in commands.items():
                if command != "leaderboard" and (number + position) % 4 != list(commands).index(command):
                    continue
                yield Case(
                    id=f"results/{key}={name}/{command}",
                    words=words,
                    parts=("evaluated",),
                    damage=value(RESULT, key, VALUES[name]),
                    codes=codes,
                    writes=("out", "home", "user", "tmp", *(("runs",) if command == "kept" else ())),
                )


def _whole() -> Iterator[Case]:
    damages: dict[str, Damage] = {name: content(RESULT, change) for name, change in FILES.items()}
    damages |= {f"is {name}": kind(RESULT, name) for name in KINDS}
    for key in ("system", "measures", "run_sha256", "schema", "provenance", "settings"):
        damages[f"lacks {key}"] = value(RESULT, key, ...)
    for name, damage in damages.items():
        gone = name == "is missing"
        yield Case(
            id=f"results/whole/{name}/leaderboard",
            words=BOARD,
            parts=("evaluated",),
            damage=damage,
            codes=FINE if gone else PARTIAL,
        )
        yield Case(
            id=f"results/whole/{name}/compare",
            words=COMPARE,
            parts=("evaluated",),
            damage=damage,
            codes=DAMAGED,
        )
        yield Case(
            id=f"results/whole/{name}/kept",
            words=KEPT,
            parts=("evaluated",),
            damage=damage,
            codes=FINE if gone else DAMAGED,
            writes=("out", "home", "user", "tmp", "runs"),
        )
    both_damaged = both(
        content(RESULT, FILES["half"]), content(RESULT.replace("first", "second"), FILES["half"])
    )
    yield Case(
        id="results/whole/every result is damaged",
        words=BOARD,
        parts=("evaluated",),
        damage=both_damaged,
        codes=PARTIAL,
    )
    extra = value(RESULT, "measures.Nonsense@10", {"mean": 0.5, "low": 0.4, "high": 0.6})
    for command, words, codes in (("leaderboard", BOARD, FINE), ("check", AUDIT, frozenset({5, 6}))):
        yield Case(
            id=f"results/whole/an unknown measure/{command}",
            words=words,
            parts=("evaluated",),
            damage=_with_board(extra),
            codes=codes,
            check=_other_audited,
        )


def _other_audited(room: Path, outcome: Outcome) -> Iterator[str]:
    if outcome.code and b"scored again" not in outcome.stdout:
        yield "the result that is whole was not scored again"


def _tables() -> Iterator[Case]:
    """Yield damaged tables of per-query values and damaged runs."""
    cells = {
        "NaN": third(lambda line: line[: line.rindex(b"\t")] + b"\tnan"),
        "infinity": third(lambda line: line[: line.rindex(b"\t")] + b"\tinf"),
        "no number": third(lambda line: line[: line.rindex(b"\t")] + b"\tx"),
        "a column more": third(lambda line: line + b"\t0.5"),
        "a column less": third(lambda line: line[: line.rindex(b"\t")]),
        "a line twice": third(lambda line: line + b"\n" + line),
        "the header alone": lambda old: old.split(b"\n")[0] + b"\n",
    }
    changes = {**{name: line.change for name, line in LINES.items() if name not in SLOW}, **cells}
    for name, change in changes.items():
        kept = name in LINES and LINES[name].kept
        codes = DOUBTFUL if kept or name == "CR only" else DAMAGED
        damage = content(_PER_QUERY, change)
        yield Case(
            id=f"results/per_query/{name}/compare",
            words=COMPARE,
            parts=("evaluated",),
            damage=damage,
            codes=codes,
        )
        codes = frozenset({0, 5, 6}) if kept or name == "CR only" else frozenset({5, 6})
        yield Case(
            id=f"results/per_query/{name}/check",
            words=AUDIT,
            parts=("evaluated",),
            damage=_with_board(damage),
            codes=codes,
        )
    runs = {name: content(_RUN, line.change) for name, line in LINES.items() if name not in SLOW}
    runs |= {f"is {name}": kind(_RUN, name) for name in KINDS}
    runs |= {
        "not gzip": lambda room: (room / _RUN).write_bytes(gzip.decompress((room / _RUN).read_bytes())),
        "cut": lambda room: (room / _RUN).write_bytes((room / _RUN).read_bytes()[:-9]),
        "a bomb": lambda room: (room / _RUN).write_bytes(gzip.compress(b"q" * (1 << 28))),
    }
    for name, damage in runs.items():
        yield Case(
            id=f"results/run/{name}/check",
            words=AUDIT,
            parts=("evaluated",),
            damage=_with_board(damage),
            codes=frozenset({5, 6}),
        )
    for name in KINDS:
        damage = kind(_PER_QUERY, name)
        yield Case(
            id=f"results/per_query is/{name}/compare",
            words=COMPARE,
            parts=("evaluated",),
            damage=damage,
            codes=DAMAGED,
        )


def _with_board(damage: Damage) -> Damage:
    """Return a damage with a leaderboard beside it; its text does not matter, since the damage is found."""
    return both(damage, write("out/board.md", "# Leaderboard\n"))


def _findings() -> Iterator[Case]:
    def damage_of(key: str, new: object) -> Damage:
        def damage(room: Path) -> None:
            (path,) = (room / "runs/overlap").glob("*.json")
            value(str(path.relative_to(room)), key, new)(room)

        return damage

    for key in ("file", "sha256", "texts", "tested", "tested.query", "seen", "seen.query", "dataset"):
        for name, new in VALUES.items():
            yield Case(
                id=f"results/finding {key}={name}",
                words=BOARD,
                parts=("evaluated",),
                damage=both(_declared, damage_of(key, new)),
                codes=HARMLESS_OR_PARTIAL,
            )

    def whole(change) -> Damage:
        def damage(room: Path) -> None:
            (path,) = (room / "runs/overlap").glob("*.json")
            path.write_bytes(change(path.read_bytes()))

        return damage

    for name, change in FILES.items():
        yield Case(
            id=f"results/finding/{name}",
            words=BOARD,
            parts=("evaluated",),
            damage=whole(change),
            codes=PARTIAL,
        )


def _declared(room: Path) -> None:
    """Let the first system declare the training file of the finding."""
    (path,) = (room / "runs/overlap").glob("*.json")
    digest = json.loads(path.read_text())["sha256"]
    value(RESULT, "settings.training_files", {digest: "groups.jsonl"})(room)


def _configs() -> Iterator[Case]:
    words = (
        "evaluate",
        "--config",
        "record.json",
        "-m",
        "ckpt",
        "-d",
        "collection",
        "--runs-dir",
        "out/runs",
        "--offline",
    )
    for name, new in VALUES.items():
        damage = both(
            write(
                "record.json", json.dumps({"provenance": {"options": {"command": "evaluate", "depth": 5}}})
            ),
            value("record.json", "provenance.options.depth", new),
        )
        yield Case(
            id=f"results/config depth={name}",
            words=words,
            parts=("collection", "templated"),
            damage=damage,
            codes=FINE | USAGE | DAMAGED,
        )
    for name, change in FILES.items():
        for file in ("record.json", "record.toml"):
            damage = both(write(file, '{"provenance": {"options": {}}}'), content(file, change))
            codes = (
                USAGE
                | DAMAGED
                | (FINE if file.endswith("toml") and name in ("no bytes", "blank") else frozenset())
            )
            yield Case(
                id=f"results/config {file}/{name}",
                words=tuple(file if word == "record.json" else word for word in words),
                parts=("collection", "templated"),
                damage=damage,
                codes=codes,
            )
    for name in KINDS:
        damage = both(write("record.json", "{}"), kind("record.json", name))
        yield Case(
            id=f"results/config is/{name}",
            words=words,
            parts=("collection", "templated"),
            damage=damage,
            codes=DAMAGED | USAGE,
        )
