"""A folder in BEIR layout: documents, queries and judgements in files, with an error for every defect.

``corpus.jsonl[.gz]`` is streamed; ``queries.jsonl[.gz]`` and ``qrels/<split>.tsv[.gz]`` are kept in memory.
"""

from collections.abc import Iterator, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.lines import find_file, objects
from llara_eval.core.types import Document, Qrels, Query
from llara_eval.scoring.trec import read_qrels


def read_jsonl(path: Path, *, id_field: str = "_id") -> Iterator[tuple[int, Document]]:
    """Stream a ``corpus.jsonl[.gz]``: one object a line with an id, ``text`` and optionally ``title``.

    Yields:
        The number of the line and the document.

    Raises:
        DataError: A line is malformed.
    """
    for number, row in objects(path):
        yield number, document_of(path, number, row, id_field)


def read_queries(path: Path) -> dict[str, Query]:
    """Read ``queries.jsonl[.gz]``, in file order.

    Raises:
        DataError: A line is malformed or an identifier occurs twice.
    """
    return unique_queries(path, ((number, query_of(path, number, row)) for number, row in objects(path)))


def unique_queries(origin: Path | str, queries: Iterator[tuple[int, Query]]) -> dict[str, Query]:
    """Return numbered queries by their identifier, in order.

    Raises:
        DataError: An identifier occurs twice.
    """
    unique: dict[str, Query] = {}
    for number, query in queries:
        if query.query_id in unique:
            raise DataError.at(
                origin, number, f"query id {query.query_id!r} occurs twice; ids must be unique"
            )
        unique[query.query_id] = query
    return unique


def read_judged(folder: Path, split: str) -> tuple[dict[str, dict[str, int]], tuple[Query, ...]]:
    """Return the judgements of a split and the judged queries, in file order.

    Raises:
        DataError: The split does not exist, a line is malformed, or a judged query is missing.
    """
    qrels = read_qrels(qrels_file(folder, split))
    path = find_file(folder, "queries.jsonl")
    return qrels, judged_queries(path, read_queries(path), qrels, split)


def judged_queries(
    origin: Path | str, queries: Mapping[str, Query], qrels: Qrels, split: str
) -> tuple[Query, ...]:
    """Return the queries that have judgements, in their order.

    Raises:
        DataError: A judged query is missing.
    """
    missing = sorted(set(qrels) - set(queries))
    if missing:
        raise DataError(
            f"{origin}: {len(missing)} judged queries of split {split!r} are missing ({missing[0]!r}, …); "
            "add them, or remove their judgements"
        )
    return tuple(query for query in queries.values() if query.query_id in qrels)


def splits(folder: Path) -> dict[str, Path]:
    """Return the judgement files of a folder by split; of two forms, the one without gzip."""
    files = [*(folder / "qrels").glob("*.tsv.gz"), *(folder / "qrels").glob("*.tsv")]
    return {path.name.removesuffix(".gz").removesuffix(".tsv"): path for path in files}


def qrels_file(folder: Path, split: str) -> Path:
    """Return the judgement file of a split.

    Raises:
        DataError: The split does not exist; the message lists the splits of the folder.
    """
    files = splits(folder)
    if split not in files:
        raise DataError(
            f"{folder / 'qrels'}: no judgements for split {split!r}; "
            + (f"the folder has {', '.join(sorted(files))}" if files else "the folder has no *.tsv")
        )
    return files[split]


def document_of(origin: Path | str, number: int, row: Mapping[str, Any], id_field: str) -> Document:
    """Return the document of a row with an identifier, ``text`` and optionally ``title``.

    Args:
        origin: The name of the source in messages.
        number: The number of the row or line in the source.
        row: The fields by name.
        id_field: Name of the identifier's field.

    Raises:
        DataError: A field is missing or malformed.
    """
    return Document(
        _identifier(origin, number, row, id_field),
        _text(origin, number, row, "title", id_field, optional=True),
        _text(origin, number, row, "text", id_field),
    )


def query_of(origin: Path | str, number: int, row: Mapping[str, Any], id_field: str = "_id") -> Query:
    """Return the query of a row; arguments and errors are those of :func:`document_of`."""
    return Query(_identifier(origin, number, row, id_field), _text(origin, number, row, "text", id_field))


def _identifier(origin: Path | str, number: int, row: Mapping[str, Any], field: str) -> str:
    """Return the identifier of a row as a string; integers are converted."""
    if field not in row:
        fields = ", ".join(map(str, row)) or "nothing"
        raise DataError.at(origin, number, f"the field {field!r} is missing; found {fields}")
    value = row[field]
    if not isinstance(value, str | bool) and isinstance(value, Integral):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError.at(origin, number, f"{field!r} must be a non-empty string, found {value!r}")
    return usable_id(origin, number, value, field)


def usable_id(origin: Path | str, number: int, value: str, field: str = "id") -> str:
    """Return an identifier unchanged if a tab-separated file can hold it.

    Raises:
        DataError: The identifier is empty, or has a tab, line break, control character or outer space.
    """
    if not value or value != value.strip() or not value.isprintable():
        raise DataError.at(
            origin,
            number,
            f"{field!r} {value!r} is empty or has a tab, line break, control character or outer space",
        )
    return value


def _text(
    origin: Path | str,
    number: int,
    row: Mapping[str, Any],
    field: str,
    id_field: str,
    *,
    optional: bool = False,
) -> str:
    """Return a text field; null, and a missing optional field, are the empty string."""
    value = row.get(field)
    if value is None and (optional or field in row):
        return ""
    if not isinstance(value, str):
        problem = f"the field {field!r} is missing" if field not in row else f"{field!r} must be a string"
        raise DataError.at(origin, number, f"{problem}; id {row.get(id_field)!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError.at(
            origin, number, f"{field!r} holds half a surrogate pair ({error.reason})"
        ) from error
    return value
