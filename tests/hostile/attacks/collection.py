"""Folders of data sets and training files: lines, fields, layouts and names."""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from case import DAMAGED, DOUBTFUL, FINE, REFUSED, USAGE, Case, Damage, Outcome
from damage import KINDS, LINES, SLOW, VALUES, Change, both, content, dump, kind, third, write
from parts import EVALUATE

VERIFY = ("datasets", "verify", "collection", "--json")
MEASURE = (*EVALUATE[:5], "--runs-dir", "out/runs", "--offline", "--json")

_FILES = ("collection/corpus.jsonl", "collection/queries.jsonl", "collection/qrels/test.tsv")


def cases() -> Iterator[Case]:
    """Yield the cases."""
    yield from _lines()
    yield from _fields()
    yield from _identifiers()
    yield from _layouts()
    yield from _places()
    yield from _same_fingerprint()


def _lines() -> Iterator[Case]:
    for file in _FILES:
        for name, line in LINES.items():
            commands = {"verify": VERIFY} if name in SLOW else {"verify": VERIFY, "evaluate": MEASURE}
            if name in SLOW and file != _FILES[0]:
                continue
            for command, words in commands.items():
                yield Case(
                    id=f"collection/{Path(file).name}/{name}/{command}",
                    words=words,
                    parts=("collection", "templated"),
                    damage=content(file, line.change),
                    codes=FINE if line.kept else DAMAGED,
                )


def _field(file: str, field: str, new: Any) -> Damage:
    """Return a damage that sets a field of the third row; ``Ellipsis`` removes it."""

    def change(line: bytes) -> bytes:
        row = json.loads(line)
        if new is ...:
            del row[field]
        else:
            row[field] = new
        return dump(row)

    return content(file, third(change))


_FINE_TEXTS = {"empty", "text", "climb", "absolute", "escape"}


def _fields() -> Iterator[Case]:
    for file, fields in ((_FILES[0], ("_id", "text", "title")), (_FILES[1], ("_id", "text"))):
        for field in fields:
            for name, new in (*VALUES.items(), ("missing", ...)):
                fine = field != "_id" and name in _FINE_TEXTS
                fine |= field != "_id" and name == "null"
                fine |= field == "title" and name == "missing"
                codes = FINE if fine else DAMAGED
                if field == "_id" and name in ("minus", "zero", "big", "text", "climb", "absolute"):
                    codes = DOUBTFUL  # another identifier: the judgements are then of an unknown document
                yield Case(
                    id=f"collection/{Path(file).name}/{field}={name}",
                    words=MEASURE,
                    parts=("collection", "templated"),
                    damage=_field(file, field, new),
                    codes=codes,
                )


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
    for file in _FILES[:2]:
        for name, (identifier, codes) in _IDS.items():
            yield Case(
                id=f"collection/{Path(file).name}/an id with {name}",
                words=MEASURE,
                parts=("collection", "templated"),
                damage=_field(file, "_id", identifier),
                codes=codes,
            )
    rows = {
        "a document twice": ("corpus.jsonl", third(lambda line: line + b"\n" + line), DAMAGED),
        "a query twice": ("queries.jsonl", third(lambda line: line + b"\n" + line), DAMAGED),
        "a grade of 2^63": ("qrels/test.tsv", third(lambda line: line[:-1] + b"9" * 19), DOUBTFUL),
        "a grade of 5,000 digits": ("qrels/test.tsv", third(lambda line: line[:-1] + b"9" * 5000), DAMAGED),
        "a grade of -5": ("qrels/test.tsv", third(lambda line: line[:-1] + b"-5"), FINE),
        "a grade of 0.5": ("qrels/test.tsv", third(lambda line: line[:-1] + b"0.5"), DAMAGED),
        "an unknown query": ("qrels/test.tsv", third(lambda line: b"zz" + line), DOUBTFUL),
        "an unknown document": (
            "qrels/test.tsv",
            third(lambda line: line.replace(b"\td", b"\tzz")),
            DOUBTFUL,
        ),
        "no text in any document": ("corpus.jsonl", _emptied, DOUBTFUL),
        "a deep row": ("corpus.jsonl", third(lambda line: b'{"a":' * 100_000), DAMAGED),
        "a key twice": ("corpus.jsonl", third(lambda line: line[:-1] + b', "_id": "d99"}'), DOUBTFUL),
    }
    for name, (file, change, codes) in rows.items():
        for command, words in {"verify": VERIFY, "evaluate": MEASURE}.items():
            yield Case(
                id=f"collection/{name}/{command}",
                words=words,
                parts=("collection", "templated"),
                damage=content(f"collection/{file}", change),
                codes=codes,
            )


def _emptied(old: bytes) -> bytes:
    return b"\n".join(dump({**json.loads(line), "text": ""}) for line in old.splitlines()) + b"\n"


def _packed(file: str, change: Change) -> Damage:
    def damage(room: Path) -> None:
        old = (room / file).read_bytes()
        (room / file).unlink()
        (room / f"{file}.gz").write_bytes(change(old))

    return damage


def _parquet(file: str, columns: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> Damage:
    def damage(room: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        path = room / file
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        parquet.write_table(pa.table(columns(rows)), path.with_suffix(".parquet"))

    return damage


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row.get(name) for row in rows] for name in rows[0]}


_LAYOUTS: Mapping[str, tuple[Damage, frozenset[int]]] = {
    "gzip": (_packed(_FILES[0], gzip.compress), FINE),
    "gzip, cut": (_packed(_FILES[0], lambda old: gzip.compress(old)[:-12]), DAMAGED),
    "gzip, not gzip": (_packed(_FILES[0], lambda old: old), DAMAGED),
    "gzip, a wrong checksum": (_packed(_FILES[0], lambda old: gzip.compress(old)[:-8] + b"\0" * 8), DAMAGED),
    "gzip, a bomb": (_packed(_FILES[0], lambda old: gzip.compress(old + b"x" * (1 << 28))), DAMAGED),
    "parquet": (_parquet(_FILES[0], _columns), FINE),
    "parquet without text": (
        _parquet(_FILES[0], lambda rows: {"_id": [row["_id"] for row in rows]}),
        DAMAGED,
    ),
    "parquet with null ids": (
        _parquet(_FILES[0], lambda rows: {**_columns(rows), "_id": [None] * len(rows)}),
        DAMAGED,
    ),
    "parquet with lists": (
        _parquet(_FILES[0], lambda rows: {**_columns(rows), "text": [["a"]] * len(rows)}),
        DAMAGED,
    ),
    "parquet of no rows": (_parquet(_FILES[0], lambda rows: {"_id": [], "text": []}), DAMAGED),
    "parquet that is text": (
        both(lambda room: (room / _FILES[0]).rename(room / "collection/corpus.parquet")),
        DAMAGED,
    ),
    "no corpus": (lambda room: (room / _FILES[0]).unlink(), DAMAGED),
    "no queries": (lambda room: (room / _FILES[1]).unlink(), DAMAGED),
    "no judgements": (lambda room: (room / _FILES[2]).unlink(), DAMAGED),
    "a README that lists files": (
        write(
            "collection/README.md",
            "---\nconfigs:\n- config_name: corpus\n  data_files: '../../etc/passwd'\n- config_name: queries\n"
            "  data_files: /etc/passwd\n- config_name: qrels\n  data_files: '**'\n---\n",
        ),
        DOUBTFUL,
    ),
    "a README of nulls": (
        write("collection/README.md", "---\nconfigs: [null, 7, {config_name: null}]\n---\n"),
        DOUBTFUL,
    ),
    "a README of a number": (write("collection/README.md", "---\nconfigs: 7\n---\n"), DOUBTFUL),
    "a README of a list": (write("collection/README.md", "---\n- 1\n---\n"), DOUBTFUL),
    "a README that is no YAML": (write("collection/README.md", "---\na: [\n---\n"), DAMAGED),
    "a README with a date": (write("collection/README.md", "---\nconfigs: 2020-99-99\n---\n"), DOUBTFUL),
    "a README of aliases": (
        write(
            "collection/README.md",
            "---\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
            + "configs: *a11\n---\n",
        ),
        DOUBTFUL,
    ),
    "a README that nests": (
        write("collection/README.md", "---\nconfigs: " + "[" * 20_000 + "\n---\n"),
        DAMAGED,
    ),
    "names with surrogates": (
        lambda room: (room / "collection/qrels/\udcff.tsv").write_text("q0\td0\t1\n"),
        DOUBTFUL,
    ),
    "a split that climbs": (
        lambda room: (room / "collection/qrels/..%2f..tsv").write_text("q0\td0\t1\n"),
        FINE,
    ),
    "a thousand splits": (
        lambda room: [(room / f"collection/qrels/{i}.tsv").write_text("q0\td0\t1\n") for i in range(1000)],
        DOUBTFUL,
    ),
}


def _layouts() -> Iterator[Case]:
    for name, (damage, codes) in _LAYOUTS.items():
        for command, words in {"verify": VERIFY, "evaluate": MEASURE}.items():
            if command == "verify" and name == "no judgements":
                codes = DOUBTFUL
            yield Case(
                id=f"collection/{name}/{command}",
                words=words,
                parts=("collection", "templated"),
                damage=damage,
                codes=codes,
            )


def _places() -> Iterator[Case]:
    for file in _FILES:
        for name in KINDS:
            yield Case(
                id=f"collection/{Path(file).name} is/{name}",
                words=MEASURE,
                parts=("collection", "templated"),
                damage=kind(file, name),
                codes=DAMAGED,
            )
    names = {
        **{
            "long": "x" * 300,
            "surrogate": "\udcff",
            "climbing": "../../../../..",
            "of a device": "/dev/zero",
        },
        **{"hub": "hf:../..", "hub with a fragment": "hf:a/b/c/d", "irds": "irds:../../x"},
        **{"empty": "", "comma": ","},
    }
    for name, dataset in names.items():
        yield Case(
            id=f"collection/a name that is {name}",
            words=("evaluate", "-m", "ckpt", "-d", dataset, "--runs-dir", "out/runs", "--offline"),
            parts=("templated",),
            codes=REFUSED,
        )


def _same_fingerprint() -> Iterator[Case]:
    """Yield two collections whose fields run together in the same text: a cache must not mix them."""
    one = [{"_id": "d1", "title": "a\x1fb", "text": "c"}, {"_id": "d2", "title": "", "text": "x"}]
    two = [{"_id": "d1", "title": "a", "text": "b\x1fc"}, {"_id": "d2", "title": "", "text": "x"}]
    three = [{"_id": "d1", "title": "a", "text": "b\x1ec"}, {"_id": "d2", "title": "", "text": "x"}]
    queries = '{"_id": "q1", "text": "a b"}\n'
    base = both(
        write("collection/queries.jsonl", queries),
        write("collection/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
    )

    def rows(documents: list[dict[str, str]]) -> Damage:
        return write("collection/corpus.jsonl", "".join(json.dumps(row) + "\n" for row in documents))

    def differ(room: Path, outcome: Outcome) -> Iterator[str]:
        from llara_eval.datasets.load import load

        seen = {}
        for number, documents in enumerate((one, two, three)):
            rows(documents)(room)
            dataset = load(str(room / "collection"), data_dir=room, offline=True)
            if (other := seen.setdefault(dataset.fingerprint, number)) != number:
                yield f"collections {other} and {number} differ, and have one fingerprint"

    yield Case(
        id="collection/two collections with one fingerprint",
        words=VERIFY,
        parts=("collection",),
        damage=both(base, rows(one)),
        check=differ,
        codes=FINE,
    )
    yield Case(
        id="collection/no name at all",
        words=("datasets", "verify", ""),
        parts=("collection",),
        codes=USAGE | DAMAGED,
    )
