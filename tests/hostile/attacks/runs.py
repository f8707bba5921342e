"""Runs and judgements: every form, damaged in every way, and grades that are too much for a measure."""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from case import DAMAGED, DOUBTFUL, FINE, USAGE, Case, Outcome
from damage import FILES, KINDS, LINES, SLOW, Change, both, content, cut, flip, kind, third, write

RUNS = ("run.trec", "run.tabs.tsv", "run.four.txt", "run.msmarco.tsv", "run.jsonl")
QRELS = ("qrels.txt", "qrels.tsv", "qrels.jsonl")

EXPECTED = {"nDCG@10": None, "RR@10": None}
"""The measures whose values are compared with those of the undamaged files."""


def score(
    run: str = "run.trec", qrels: str = "qrels.txt", measures: str = "nDCG@10,RR@10"
) -> tuple[str, ...]:
    """Return the command that scores a run."""
    return ("score", "--run", run, "--qrels", qrels, "--measures", measures, "--json")


def same_values(room: Path, outcome: Outcome) -> Iterator[str]:
    """Check that the values are those of the undamaged files, by the definition of the measures."""
    values = json.loads(outcome.stdout)["measures"]
    for name, value in expected().items():
        if abs(values[name] - value) > 1e-9:
            yield f"{name} is {values[name]:.6f}, and {value:.6f} without the damage"


def expected() -> dict[str, float]:
    """Return nDCG@10 and RR@10 of the undamaged run."""
    from math import log2

    from parts import QRELS as grades
    from parts import RUN

    ndcg, rr = 0.0, 0.0
    for query, docs in RUN.items():
        ranked = sorted(docs, key=lambda doc: -docs[doc])
        gains = [grades[query].get(doc, 0) for doc in ranked]
        ideal = sorted(grades[query].values(), reverse=True)
        ndcg += sum(g / log2(i + 2) for i, g in enumerate(gains)) / sum(
            g / log2(i + 2) for i, g in enumerate(ideal)
        )
        rr += next((1 / (i + 1) for i, g in enumerate(gains) if g > 0), 0.0)
    return {"nDCG@10": ndcg / len(RUN), "RR@10": rr / len(RUN)}


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
    yield from _tables()
    yield from _places()


def _lines() -> Iterator[Case]:
    for run in RUNS:
        for name, line in LINES.items():
            if name in SLOW and run != RUNS[0]:
                continue
            yield Case(
                id=f"runs/{run}/{name}",
                words=score(run=run),
                parts=("files",),
                damage=content(run, line.change),
                codes=FINE if line.kept else DAMAGED,
                check=same_values if line.kept else lambda room, outcome: (),
            )
    for qrels in QRELS:
        for name, line in LINES.items():
            if name in SLOW and qrels != QRELS[0]:
                continue
            yield Case(
                id=f"runs/{qrels}/{name}",
                words=score(qrels=qrels),
                parts=("files",),
                damage=content(qrels, line.change),
                codes=FINE if line.kept else DAMAGED,
                check=same_values if line.kept else lambda room, outcome: (),
            )


def _cells() -> Iterator[Case]:
    for file in ("run.trec", "run.tabs.tsv", "run.four.txt", "run.msmarco.tsv", "qrels.txt", "qrels.tsv"):
        words = score(run=file) if file.startswith("run") else score(qrels=file)
        for name, number in _NUMBERS.items():
            damage = content(file, _last(number))
            yield Case(id=f"runs/{file}/{name}", words=words, parts=("files",), damage=damage, codes=DAMAGED)
        changes: Mapping[str, Change] = {
            "a line twice": third(lambda line: line + b"\n" + line),
            "a column more": third(lambda line: line + b" x y"),
            "a column less": third(lambda line: line[: max(line.rfind(b" "), line.rfind(b"\t"))]),
            "NUL in an id": third(lambda line: line.replace(b"d", b"d\0")),
        }
        for name, change in changes.items():
            harmless = name == "a line twice" and file.startswith("qrels")
            harmless |= name == "NUL in an id" or (name == "a column less" and file == "qrels.txt")
            codes = DOUBTFUL if harmless else DAMAGED
            damage = content(file, change)
            yield Case(id=f"runs/{file}/{name}", words=words, parts=("files",), damage=damage, codes=codes)
    for file in ("qrels.txt", "qrels.tsv"):
        for name, (grade, codes) in _GRADES.items():
            damage = content(file, _last(grade))
            words = score(qrels=file)
            yield Case(id=f"runs/{file}/{name}", words=words, parts=("files",), damage=damage, codes=codes)


def _measures() -> Iterator[Case]:
    for name, grades in _ODD_GRADES.items():
        rows = "".join(f"q{q} 0 d{d} {grade}\n" for q in range(50) for d, grade in enumerate(grades))
        hits = "".join(f"q{q} Q0 d{d} {d + 1} {100 - d} t\n" for q in range(50) for d in range(50))
        damage = both(write("qrels.odd.txt", rows), write("run.odd.trec", hits))
        for measure in _MEASURES:
            yield Case(
                id=f"runs/{measure}/{name}",
                words=score("run.odd.trec", "qrels.odd.txt", measure),
                damage=damage,
                codes=DOUBTFUL | USAGE,  # ir_measures does not compute some of them
            )
    for name in (
        *("", ",", "nDCG@", "nDCG@0", "nDCG@-1", "nDCG@1e9", "__import__('os')", "nDCG(x=1)", "P(rel=0)"),
        *("\x1b[31m", "nDCG@10;P@5", "AP(" * 500, "nDCG@" + "9" * 5000),
    ):
        yield Case(
            id=f"runs/measure/{name[:20]!r}", words=score(measures=name), parts=("files",), codes=USAGE
        )


def _tables() -> Iterator[Case]:
    for name, (text, codes) in _JSON_RUN.items():
        words = score(run="odd.json")
        yield Case(
            id=f"runs/json/{name}", words=words, parts=("files",), damage=write("odd.json", text), codes=codes
        )
        words = score(qrels="odd.json")
        yield Case(
            id=f"runs/json qrels/{name}",
            words=words,
            parts=("files",),
            damage=write("odd.json", text.replace('"d1": 1}', '"d1": 1, "d9": 2}')),
            codes=codes | (FINE if name in ("true",) else frozenset()),
        )
    for file in ("run.json", "qrels.json"):
        words = score(run=file) if file.startswith("run") else score(qrels=file)
        for name, change in FILES.items():
            damage = content(file, change)
            yield Case(id=f"runs/{file}/{name}", words=words, parts=("files",), damage=damage, codes=DAMAGED)
    for file in ("run.parquet", "qrels.parquet"):
        words = score(run=file) if file.startswith("run") else score(qrels=file)
        for seed in range(12):
            damage = flip(file, seed, 1 + seed % 3)
            yield Case(
                id=f"runs/{file}/bits {seed}", words=words, parts=("files",), damage=damage, codes=DOUBTFUL
            )
        for share in (0.0, 0.2, 0.5, 0.9, 0.999):
            damage = cut(file, share)
            yield Case(
                id=f"runs/{file}/cut {share}", words=words, parts=("files",), damage=damage, codes=DAMAGED
            )
        for name, make in _PARQUET.items():
            codes = DOUBTFUL if name in ("integers", "lists", "dictionary") else DAMAGED
            damage = _parquet(file, make)
            yield Case(id=f"runs/{file}/{name}", words=words, parts=("files",), damage=damage, codes=codes)


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


def _parquet(file: str, columns: dict[str, list[object]]):
    def damage(room: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table(columns), room / file)

    return damage


def _places() -> Iterator[Case]:
    for file in ("run.trec", "qrels.txt", "run.json", "run.parquet"):
        words = score(run=file) if file.startswith("run") else score(qrels=file)
        for name in KINDS:
            yield Case(
                id=f"runs/{file} is/{name}",
                words=words,
                parts=("files",),
                damage=kind(file, name),
                codes=DAMAGED,
            )
    for name, path in {
        "long": "x" * 300,
        "long path": "x/" * 3000,
        "NUL": "a\0b",
        "surrogate": "\udcff",
    }.items():
        if name != "NUL":
            yield Case(id=f"runs/no such run/{name}", words=score(run=path), parts=("files",), codes=DAMAGED)
            yield Case(
                id=f"runs/no such qrels/{name}", words=score(qrels=path), parts=("files",), codes=DAMAGED
            )
    packed: Mapping[str, tuple[Change, frozenset[int]]] = {
        "gzip": (lambda old: gzip.compress(old), FINE),
        "cut": (lambda old: gzip.compress(old)[:-12], DAMAGED),
        "not gzip": (lambda old: old, DAMAGED),
        "trailing bytes": (lambda old: gzip.compress(old) + b"trailing", DAMAGED),
        "trailing NULs": (lambda old: gzip.compress(old) + b"\0" * 512, FINE),
        "two members": (lambda old: gzip.compress(old[:60]) + gzip.compress(old[60:]), FINE),
        "a wrong checksum": (lambda old: gzip.compress(old)[:-8] + b"\0" * 8, DAMAGED),
        "a bomb in one line": (lambda old: gzip.compress(old + b"q" * (1 << 28)), DAMAGED),
    }
    for file in ("run.trec", "qrels.txt"):
        for name, (change, codes) in packed.items():
            words = score(run=f"{file}.gz") if file.startswith("run") else score(qrels=f"{file}.gz")
            damage = _pack(file, change)
            check = same_values if codes == FINE else lambda room, outcome: ()
            yield Case(
                id=f"runs/{file}.gz/{name}",
                words=words,
                parts=("files",),
                damage=damage,
                codes=codes,
                check=check,
            )
    yield from _per_query()


def _pack(file: str, change: Change):
    def damage(room: Path) -> None:
        (room / f"{file}.gz").write_bytes(change((room / file).read_bytes()))

    return damage


def _per_query() -> Iterator[Case]:
    """Yield the cases of the file of per-query values, which must replace no input."""
    for name, target in {
        "the run": "run.trec",
        "the qrels": "qrels.txt",
        "a link to the run": "out/link",
    }.items():
        damage = (lambda room: (room / "out/link").symlink_to(room / "run.trec")) if "link" in name else None
        yield Case(
            id=f"runs/per-query values over/{name}",
            words=(*score(), "--per-query", target),
            parts=("files",),
            damage=damage or (lambda room: None),
            codes=USAGE,
        )
    damage = write("out/result.json", "{}")
    yield Case(
        id="runs/per-query values over/a file of the user",
        words=(*score(), "--per-query", "notes.txt"),
        parts=("files",),
        damage=both(damage, write("notes.txt", "mine")),
        codes=USAGE,
    )
