"""Folders of data sets and training files: lines, fields, layouts and names."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from case import DAMAGED, DOUBTFUL, FINE, REFUSED, USAGE, Case, Damage, Outcome, shell
from damage import (
    GZIPPED,
    LINES,
    QUICK_LINES,
    STAND_INS,
    VALUES,
    Change,
    changed,
    dump,
    packed,
    parquet,
    removed,
    spoiled,
    third,
    together,
    write,
)
from parts import DOCUMENTS, EVALUATE

VERIFY = shell("datasets verify collection --json")
MEASURE = (*EVALUATE, "--runs-dir", "out/runs", "--json")

_CORPUS, _QUERIES, _QRELS = shell(
    "collection/corpus.jsonl collection/queries.jsonl collection/qrels/test.tsv"
)


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _lines()
    yield from _fields()
    yield from _identifiers()
    yield from _layouts()
    yield from _places()
    yield from _same_fingerprint()


def _case(name: str, damage: Damage, codes: frozenset[int], words: tuple[str, ...] = MEASURE) -> Case:
    """Return a case of a damaged collection, on which a system is measured."""
    return Case(
        id=f"collection/{name}", words=words, parts=("collection", "templated"), damage=damage, codes=codes
    )


def _both(name: str, damage: Damage, codes: frozenset[int]) -> Iterator[Case]:
    """Yield a case in which a damaged collection is verified, and one in which a system is measured."""
    yield _case(f"{name}/verify", damage, codes, VERIFY)
    yield _case(f"{name}/evaluate", damage, codes)


def _lines() -> Iterator[Case]:
    for file in (_CORPUS, _QUERIES, _QRELS):
        for name, variant in QUICK_LINES.items():
            yield from _both(f"{Path(file).name}/{name}", changed(file, variant.change), variant.codes)
    slow = "a line of 70 MB"
    yield _case(f"corpus.jsonl/{slow}/verify", changed(_CORPUS, LINES[slow].change), DAMAGED, VERIFY)


def _field(file: str, field: str, new: Any) -> Damage:
    """Return a damage that sets a field of the third row; ``Ellipsis`` removes it."""

    def change(line: bytes) -> bytes:
        row = json.loads(line)
        if new is ...:
            del row[field]
        else:
            row[field] = new
        return dump(row)

    return changed(file, third(change))


def _fields() -> Iterator[Case]:
    for file, fields in ((_CORPUS, ("_id", "text", "title")), (_QUERIES, ("_id", "text"))):
        for field in fields:
            for name, new in (*VALUES.items(), ("missing", ...)):
                if field == "_id":  # another identifier is that of an unknown document
                    codes = DOUBTFUL if name in _OTHER_IDS else DAMAGED
                else:
                    fine = name in _TEXTS or (field == "title" and name == "missing")
                    codes = FINE if fine else DAMAGED
                yield _case(f"{Path(file).name}/{field}={name}", _field(file, field, new), codes)


_TEXTS = {"empty", "text", "climb", "absolute", "escape", "null"}
"""The values of :data:`damage.VALUES` that a text may have."""

_OTHER_IDS = {"minus", "zero", "big", "text", "climb", "absolute"}
"""The values of :data:`damage.VALUES` that an identifier may have."""

_IDS: Mapping[str, tuple[str, frozenset[int]]] = {
    "a tab": ("d\t1", DAMAGED),
    "a line feed": ("d\n1", DAMAGED),
    "a space": ("d 1", DOUBTFUL),
    "U+001F": ("d\x1f1", DAMAGED),
    "U+0085": ("d\u00851", DAMAGED),
    "U+2028": ("d\u20281", DAMAGED),
    "U+202E": ("d\u202e1", DOUBTFUL),
    "ESC": ("d\x1b[31m1", DAMAGED),
    "a surrogate": ("d\ud800", DAMAGED),
    "a path": ("../../../out", DOUBTFUL),
    "4 MB": ("d" * 4_000_000, DOUBTFUL),
    "NFD": ("de\u0301", DOUBTFUL),
}


def _identifiers() -> Iterator[Case]:
    for file in (_CORPUS, _QUERIES):
        for name, (identifier, codes) in _IDS.items():
            yield _case(f"{Path(file).name}/an id with {name}", _field(file, "_id", identifier), codes)
    rows: Mapping[str, tuple[str, Change, frozenset[int]]] = {
        "a document twice": (_CORPUS, lambda line: line + b"\n" + line, DAMAGED),
        "a query twice": (_QUERIES, lambda line: line + b"\n" + line, DAMAGED),
        "a grade of 2^63": (_QRELS, lambda line: line[:-1] + b"9" * 19, DOUBTFUL),
        "a grade of 5,000 digits": (_QRELS, lambda line: line[:-1] + b"9" * 5000, DAMAGED),
        "a grade of -5": (_QRELS, lambda line: line[:-1] + b"-5", FINE),
        "a grade of 0.5": (_QRELS, lambda line: line[:-1] + b"0.5", DAMAGED),
        "an unknown query": (_QRELS, lambda line: b"zz" + line, DOUBTFUL),
        "an unknown document": (_QRELS, lambda line: line.replace(b"\td", b"\tzz"), DOUBTFUL),
        "a deep row": (_CORPUS, lambda line: b'{"a":' * 100_000, DAMAGED),
        "a key twice": (_CORPUS, lambda line: line[:-1] + b', "_id": "d99"}', DOUBTFUL),
    }
    for name, (file, change, codes) in rows.items():
        yield from _both(name, changed(file, third(change)), codes)
    yield from _both("no text in any document", changed(_CORPUS, _emptied), DOUBTFUL)


def _emptied(old: bytes) -> bytes:
    return b"\n".join(dump({**json.loads(line), "text": ""}) for line in old.splitlines()) + b"\n"


_COLUMNS = {"_id": [*DOCUMENTS], "text": [*DOCUMENTS.values()]}


def _parquet(**columns: Any) -> Damage:
    """Return a damage that puts a Parquet file in the place of the corpus."""
    return together(removed(_CORPUS), parquet("collection/corpus.parquet", columns))


_LAYOUTS: Mapping[str, tuple[Damage, frozenset[int]]] = {
    "parquet": (_parquet(**_COLUMNS), FINE),
    "parquet without text": (_parquet(_id=_COLUMNS["_id"]), DAMAGED),
    "parquet with null ids": (_parquet(**{**_COLUMNS, "_id": [None] * len(DOCUMENTS)}), DAMAGED),
    "parquet with lists": (_parquet(**{**_COLUMNS, "text": [["a"]] * len(DOCUMENTS)}), DAMAGED),
    "parquet of no rows": (_parquet(_id=[], text=[]), DAMAGED),
    "parquet that is text": (
        lambda room: (room / _CORPUS).rename(room / "collection/corpus.parquet"),
        DAMAGED,
    ),
    "no corpus": (removed(_CORPUS), DAMAGED),
    "no queries": (removed(_QUERIES), DAMAGED),
    "names with surrogates": (write("collection/qrels/\udcff.tsv", "q0\td0\t1\n"), DOUBTFUL),
    "a split that climbs": (write("collection/qrels/..%2f..tsv", "q0\td0\t1\n"), FINE),
    "a thousand splits": (
        together(*(write(f"collection/qrels/{number}.tsv", "q0\td0\t1\n") for number in range(1000))),
        DOUBTFUL,
    ),
}
"""Name → what is changed in the folder, and the exit codes."""

_HEADS: Mapping[str, tuple[str, frozenset[int]]] = {
    "that lists files": (
        "configs:\n- config_name: corpus\n  data_files: '../../etc/passwd'\n- config_name: queries\n"
        "  data_files: /etc/passwd\n- config_name: qrels\n  data_files: '**'",
        DOUBTFUL,
    ),
    "of nulls": ("configs: [null, 7, {config_name: null}]", DOUBTFUL),
    "of a number": ("configs: 7", DOUBTFUL),
    "of a list": ("- 1", DOUBTFUL),
    "that is no YAML": ("a: [", DAMAGED),
    "with a date": ("configs: 2020-99-99", DOUBTFUL),
    "of aliases": (
        "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
        + "configs: *a11",
        DOUBTFUL,
    ),
    "that nests": ("configs: " + "[" * 20_000, DAMAGED),
}
"""Name → the head of a README.md, and the exit codes."""


def _layouts() -> Iterator[Case]:
    for name, (damage, codes) in _LAYOUTS.items():
        yield from _both(name, damage, codes)
    yield _case("no judgements/verify", removed(_QRELS), DOUBTFUL, VERIFY)
    yield _case("no judgements/evaluate", removed(_QRELS), DAMAGED)
    for name, variant in GZIPPED.items():
        yield from _both(f"gzip, {name}", packed(_CORPUS, variant.change), variant.codes)
    for name, (head, codes) in _HEADS.items():
        yield from _both(f"a README {name}", write("collection/README.md", f"---\n{head}\n---\n"), codes)


def _places() -> Iterator[Case]:
    for file in (_CORPUS, _QUERIES, _QRELS):
        for name in STAND_INS:
            yield _case(f"{Path(file).name} is/{name}", spoiled(file, name), DAMAGED)
    datasets = {
        **{"long": "x" * 300, "surrogate": "\udcff", "climbing": "../../../../..", "empty": "", "comma": ","},
        **{"hub": "hf:../..", "hub with a fragment": "hf:a/b/c/d", "irds": "irds:../../x"},
        "of a device": "/dev/zero",
    }
    for name, dataset in datasets.items():
        yield Case(
            id=f"collection/a name that is {name}",
            words=("evaluate", "-m", "ckpt", "-d", dataset, "--runs-dir", "out/runs", "--offline"),
            parts=("templated",),
            codes=REFUSED,
        )


def _same_fingerprint() -> Iterator[Case]:
    """Yield collections whose fields run together in the same text: a cache must not mix them."""
    contents = (("a\x1fb", "c"), ("a", "b\x1fc"), ("a", "b\x1ec"))

    def corpus(title: str, text: str) -> Damage:
        rows = [{"_id": "d1", "title": title, "text": text}, {"_id": "d2", "title": "", "text": "x"}]
        return write(_CORPUS, "".join(json.dumps(row) + "\n" for row in rows))

    def differ(room: Path, outcome: Outcome) -> Iterator[str]:
        from llara_eval.datasets.load import load

        numbers: dict[str, int] = {}
        for number, (title, text) in enumerate(contents):
            corpus(title, text)(room)
            dataset = load(str(room / "collection"), data_dir=room, offline=True)
            if (other := numbers.setdefault(dataset.fingerprint, number)) != number:
                yield f"collections {other} and {number} differ, and have one fingerprint"

    yield Case(
        id="collection/two collections with one fingerprint",
        words=VERIFY,
        parts=("collection",),
        damage=together(
            write(_QUERIES, '{"_id": "q1", "text": "a b"}\n'),
            write(_QRELS, "query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
            corpus(*contents[0]),
        ),
        check=differ,
    )
    yield Case(
        id="collection/no name at all",
        words=("datasets", "verify", ""),
        parts=("collection",),
        codes=USAGE | DAMAGED,
    )
