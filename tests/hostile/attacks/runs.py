"""Runs and judgements: every form, damaged in every way, and grades that are too much for a measure."""

import json
from collections.abc import Iterator, Mapping
from math import log2
from pathlib import Path

import parts
from case import DAMAGED, DOUBTFUL, FINE, USAGE, Case, Check, Damage, Outcome, intact, unchecked
from damage import (
    GZIPPED,
    JSON_FILES,
    LINES,
    QUICK_LINES,
    STAND_INS,
    Change,
    Variant,
    changed,
    cut,
    flip,
    packed,
    parquet,
    spoiled,
    third,
    together,
    write,
)

_TABLES = ("run.trec", "run.tabs.tsv", "run.four.txt", "run.msmarco.tsv", "qrels.txt", "qrels.tsv")
"""Files with a run or with judgements in columns."""


def score(
    run: str = "run.trec", qrels: str = "qrels.txt", measures: str = "nDCG@10,RR@10"
) -> tuple[str, ...]:
    """Return the command that scores a run."""
    return ("score", "--run", run, "--qrels", qrels, "--measures", measures, "--json")


def _case(
    name: str, file: str, damage: Damage, codes: frozenset[int] = DAMAGED, check: Check = unchecked
) -> Case:
    """Return a case in which a file is scored: a run, if its name begins so, or judgements."""
    words = score(run=file) if file.startswith("run") else score(qrels=file)
    return Case(id=f"runs/{name}", words=words, parts=("files",), damage=damage, codes=codes, check=check)


def _variant(name: str, file: str, damage: Damage, variant: Variant) -> Case:
    """Return a case in which a variant of a file is scored, with the same values if its meaning is kept."""
    return _case(name, file, damage, variant.codes, same_values if variant.kept else unchecked)


def same_values(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that the values are those of the undamaged files, by the definition of the measures."""
    values = json.loads(outcome.stdout)["measures"]
    for name, value in expected().items():
        if abs(values[name] - value) > 1e-9:
            yield f"{name} is {values[name]:.6f}, and {value:.6f} without the damage"


def expected() -> dict[str, float]:
    """Return nDCG@10 and RR@10 of the undamaged run."""
    ndcg, rr = 0.0, 0.0
    for query, scores in parts.RUN.items():
        grades = parts.QRELS[query]
        gains = [grades.get(doc, 0) for doc in sorted(scores, key=lambda doc: -scores[doc])]
        ndcg += _dcg(gains) / _dcg(sorted(grades.values(), reverse=True))
        rr += next((1 / rank for rank, gain in enumerate(gains, 1) if gain > 0), 0.0)
    return {"nDCG@10": ndcg / len(parts.RUN), "RR@10": rr / len(parts.RUN)}


def _dcg(gains: list[int]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, 1))


def _last(new: bytes) -> Change:
    """Return a change of the last cell of the third line but the tag: a score, a rank or a grade."""

    def change(line: bytes) -> bytes:
        cells = line.split(b"\t") if b"\t" in line else line.split(b" ")
        position = -2 if len(cells) == 6 else -1
        cells[position] = new
        return (b"\t" if b"\t" in line else b" ").join(cells)

    return third(change)


_NUMBERS: Mapping[str, bytes] = {
    "NaN": b"nan",
    "infinity": b"inf",
    "1e400": b"1e400",
    "underscore": b"1_0",
    "hexadecimal": b"0x10",
    "no number": b"x",
    "digits": b"9" * 5000,
    "comma": b"1,5",
}
"""What is no number in any of these files."""

_GRADES: Mapping[str, tuple[bytes, frozenset[int]]] = {
    "one and a half": (b"1.5", DAMAGED),
    "2^31": (b"2147483648", DOUBTFUL),
    "2^63": (b"9223372036854775808", DOUBTFUL),
    "-2^63": (b"-9223372036854775809", DOUBTFUL),
    "-2": (b"-2", FINE),
}

_ODD_GRADES: Mapping[str, list[int]] = {
    "all -2": [-2] * 50,
    "mostly -2": [-2] * 49 + [1],
    "all -1": [-1] * 50,
    "all 0": [0] * 50,
    "-2^31": [-(2**31)] * 50,
    "10^6": [10**6] * 50,
    "2^31": [2**31] * 50,
    "2^62": [2**62] * 50,
    "1 of each": list(range(-25, 25)),
}

_MEASURES = (
    *("nDCG", "nDCG@10", "nDCG(dcg='exp-log2')@10", "AP", "AP@100", "RR", "R@10", "P@5", "Rprec", "bpref"),
    *("infAP", "P(judged_only=True)@5", "AP(judged_only=True)", "ERR@10", "RBP", "RBP(p=0.8)", "SetF"),
    *("Judged@10", "Success@5", "NumRet", "IPrec@0.1", "NERR8@10", "INST", "SetP", "Compat", "BPM"),
)

_JSON_RUN: Mapping[str, tuple[str, frozenset[int]]] = {
    "NaN": ('{"q0": {"d1": NaN}}', DAMAGED),
    "infinity": ('{"q0": {"d1": 1e999}}', DAMAGED),
    "digits": (f'{{"q0": {{"d1": {"9" * 5000}}}}}', DAMAGED),
    "large integer": (f'{{"q0": {{"d1": {10**400}}}}}', DAMAGED),
    "null": ('{"q0": {"d1": null}}', DAMAGED),
    "true": ('{"q0": {"d1": true}}', DAMAGED),
    "text": ('{"q0": {"d1": "1"}}', DAMAGED),
    "list": ('{"q0": ["d1"]}', DAMAGED),
    "number": ('{"q0": 1}', DAMAGED),
    "no id": ('{"": {"d1": 1}}', DAMAGED),
    "no document": ('{"q0": {"": 1}}', DAMAGED),
    "one query twice": ('{"q0": {"d1": 1}, "q0": {"d2": 1}}', DAMAGED),
    "one document twice": ('{"q0": {"d1": 1, "d1": 2}}', DAMAGED),
    "surrogate of a document": ('{"q0": {"\\ud800": 1, "d1": 1}}', DOUBTFUL),
    "surrogate of a query": ('{"\\ud800": {"d1": 1}, "q0": {"d1": 1}}', DOUBTFUL),
    "control characters": ('{"q0": {"d\\u001b[31m\\u0007": 1, "d1": 0}}', DOUBTFUL),
    "deep": ('{"q0": {"d1": %s}}' % ("[" * 100_000), DAMAGED),
}


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _lines()
    yield from _cells()
    yield from _measures()
    yield from _other_formats()
    yield from _places()


def _lines() -> Iterator[Case]:
    for file in (*_TABLES, "run.jsonl", "qrels.jsonl"):
        variants = LINES if file in ("run.trec", "qrels.txt") else QUICK_LINES
        for name, variant in variants.items():
            yield _variant(f"{file}/{name}", file, changed(file, variant.change), variant)


def _cells() -> Iterator[Case]:
    changes: Mapping[str, Change] = {
        **{name: _last(number) for name, number in _NUMBERS.items()},
        "a line twice": third(lambda line: line + b"\n" + line),
        "a column more": third(lambda line: line + b" x y"),
        "a column less": third(lambda line: line[: max(line.rfind(b" "), line.rfind(b"\t"))]),
        "NUL in an id": third(lambda line: line.replace(b"d", b"d\0")),
    }
    for file in _TABLES:
        for name, change in changes.items():
            harmless = name == "a line twice" and file.startswith("qrels")
            harmless |= name == "a column more" and file == "run.tabs.tsv"  # a tag with spaces
            harmless |= name == "NUL in an id" or (name == "a column less" and file == "qrels.txt")
            yield _case(f"{file}/{name}", file, changed(file, change), DOUBTFUL if harmless else DAMAGED)
    for file in ("qrels.txt", "qrels.tsv"):
        for name, (grade, codes) in _GRADES.items():
            yield _case(f"{file}/{name}", file, changed(file, _last(grade)), codes)


def _measures() -> Iterator[Case]:
    for name, grades in _ODD_GRADES.items():
        rows = "".join(f"q{q} 0 d{d} {grade}\n" for q in range(50) for d, grade in enumerate(grades))
        hits = "".join(f"q{q} Q0 d{d} {d + 1} {100 - d} t\n" for q in range(50) for d in range(50))
        damage = together(write("qrels.odd.txt", rows), write("run.odd.trec", hits))
        for measure in _MEASURES:
            yield Case(
                id=f"runs/{measure}/{name}",
                words=score("run.odd.trec", "qrels.odd.txt", measure),
                damage=damage,
                codes=DOUBTFUL | USAGE,  # ir_measures does not compute some of them
            )
    measures = (
        *("", ",", "nDCG@", "nDCG@0", "nDCG@-1", "nDCG@1e9", "__import__('os')", "nDCG(x=1)", "P(rel=0)"),
        *("\x1b[31m", "nDCG@10;P@5", "AP(" * 500, "nDCG@" + "9" * 5000),
    )
    for measure in measures:
        yield Case(
            id=f"runs/measure/{measure[:20]!r}", words=score(measures=measure), parts=("files",), codes=USAGE
        )


def _other_formats() -> Iterator[Case]:
    """Yield runs and judgements in JSON and Parquet."""
    for name, (text, codes) in _JSON_RUN.items():
        yield _case(f"json/{name}", "run.odd.json", write("run.odd.json", text), codes)
        damage = write("odd.json", text.replace('"d1": 1}', '"d1": 1, "d9": 2}'))
        # a grade may be true
        yield _case(f"json qrels/{name}", "odd.json", damage, DOUBTFUL if name == "true" else codes)
    for file in ("run.json", "qrels.json"):
        for name, change in JSON_FILES.items():
            # JSON says its encoding itself
            codes = DOUBTFUL if name == "UTF-16" else DAMAGED
            yield _case(f"{file}/{name}", file, changed(file, change), codes)
    for file in ("run.parquet", "qrels.parquet"):
        for seed in range(12):
            yield _case(f"{file}/bits {seed}", file, changed(file, flip(seed, 1 + seed % 3)), DOUBTFUL)
        for share in (0.0, 0.2, 0.5, 0.9, 0.999):
            yield _case(f"{file}/cut {share}", file, changed(file, cut(share)))
        for name, columns in _PARQUET.items():
            codes = DOUBTFUL if name in ("integers", "lists") else DAMAGED
            yield _case(f"{file}/{name}", file, parquet(file, columns), codes)


_PARQUET = {
    "null ids": {"query_id": [None, "q1"], "doc_id": ["d1", "d2"], "score": [1.0, 2.0]},
    "null values": {"query_id": ["q0", "q1"], "doc_id": ["d1", "d2"], "score": [None, 2.0]},
    "NaN": {"query_id": ["q0", "q1"], "doc_id": ["d1", "d2"], "score": [float("nan"), 2.0]},
    "other columns": {"a": ["q0"], "b": ["d1"]},
    "no rows": {"query_id": [], "doc_id": [], "score": []},
    "bytes": {"query_id": [b"\xff\xfe"], "doc_id": [b"d1"], "score": [1]},
    "structs": {"query_id": [{"a": 1}], "doc_id": ["d1"], "score": [1]},
    "integers": {"query_id": [1, 2], "doc_id": [3, 4], "score": [1, 2]},
    "lists": {"query_id": ["q0", "q1"], "doc_id": [["d1", "d2"], ["d3"]], "score": [1, 2]},
    "texts": {"query_id": ["q0"], "doc_id": ["d1"], "score": ["1"]},
}


def _places() -> Iterator[Case]:
    for file in ("run.trec", "qrels.txt", "run.json", "run.parquet"):
        for name in STAND_INS:
            yield _case(f"{file} is/{name}", file, spoiled(file, name))
    for name, path in {"long": "x" * 300, "long path": "x/" * 3000, "surrogate": "\udcff"}.items():
        for role, words in {"run": score(run=path), "qrels": score(qrels=path)}.items():
            yield Case(id=f"runs/no such {role}/{name}", words=words, parts=("files",), codes=DAMAGED)
    for file in ("run.trec", "qrels.txt"):
        for name, variant in GZIPPED.items():
            yield _variant(f"{file}.gz/{name}", f"{file}.gz", packed(file, variant.change), variant)
    yield from _per_query()


def _per_query() -> Iterator[Case]:
    """Yield the cases of the file of per-query values, which must replace no input."""
    targets: Mapping[str, tuple[str, Damage]] = {
        "the run": ("run.trec", intact),
        "the qrels": ("qrels.txt", intact),
        "a link to the run": ("out/link", lambda room: (room / "out/link").symlink_to(room / "run.trec")),
        "a file of the user": ("notes.txt", write("notes.txt", "mine")),
    }
    for name, (target, damage) in targets.items():
        yield Case(
            id=f"runs/per-query values over/{name}",
            words=(*score(), "--per-query", target),
            parts=("files",),
            damage=damage,
            codes=USAGE,
        )
