"""A folder with a data set: documents, queries and judgements in files, with an error for every defect.

Documents are streamed; queries and judgements are kept in memory. Which file holds what:
:mod:`llara_eval.datasets.layout`. Wherever a folder is expected, ``folder:configuration`` names one of its
configurations.
"""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.tables import rows
from llara_eval.core.types import Document, Qrels, Query
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.files import layout_of
from llara_eval.datasets.layout import choose
from llara_eval.scoring.columns import fits_a_column
from llara_eval.scoring.judgements import collect_qrels, read_qrels

DOCUMENT_IDS = ("_id", "doc_id", "id", "docid", "docno")
QUERY_IDS = ("_id", "query_id", "id", "qid", "query-id")
"""Names of the field with the identifier, in order of precedence."""

_COLUMNS = {*DOCUMENT_IDS, *QUERY_IDS, "title", "text"}


def read_documents(path: Path) -> Iterator[tuple[int, Document]]:
    """Stream a file of documents, JSON Lines or Parquet: rows with an id, ``text`` and optionally ``title``.

    Yields:
        The number of the line or row, and the document.

    Raises:
        DataError: A row is malformed.
    """
    for number, row in rows(path, _COLUMNS):
        yield number, document_of(path, number, row, _id_field(row, DOCUMENT_IDS))


def read_queries(*paths: Path) -> dict[str, Query]:
    """Read files of queries, JSON Lines or Parquet, in their order.

    Raises:
        DataError: A row is malformed or an identifier occurs twice.
    """
    queries: dict[str, Query] = {}
    for path in paths:
        numbered = (
            (number, query_of(path, number, row, _id_field(row, QUERY_IDS)))
            for number, row in rows(path, _COLUMNS)
        )
        queries = unique_queries(path, numbered, queries)
    return queries


def _id_field(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((name for name in names if name in row), names[0])


def unique_queries(
    origin: Path | str,
    queries: Iterator[tuple[int, Query]],
    earlier: Mapping[str, Query] = MappingProxyType({}),
) -> dict[str, Query]:
    """Return numbered queries by their identifier, in order, after those that were read earlier.

    Raises:
        DataError: An identifier occurs twice.
    """
    unique = dict(earlier)
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
    qrels = read_split(folder, split)
    paths = _require(folder, choose(layout_of(folder).queries, split), "queries")
    return qrels, judged_queries(paths[0], read_queries(*paths), qrels, split)


def corpus_of(folder: Path, split: str | None = None) -> Corpus:
    """Return the documents of a folder: those of a split, if it has documents of its own.

    Raises:
        DataError: The folder has no documents.
    """
    return Corpus(_require(folder, choose(layout_of(folder).corpus, split), "corpus"), read_documents)


def require_files(folder: Path, split: str | None) -> None:
    """Refuse a folder that lacks documents, queries, or the judgements of a split.

    Raises:
        DataError: A file is missing.
    """
    layout = layout_of(folder)
    _require(folder, choose(layout.corpus, split), "corpus")
    _require(folder, choose(layout.queries, split), "queries")
    if split is not None:
        _require_split(folder, split)


def _require(folder: Path, paths: tuple[Path, ...], role: str) -> tuple[Path, ...]:
    """Return the files of a role, or raise a DataError if there are none."""
    if not paths:
        raise DataError(
            f"{folder}: there is neither {role}.jsonl, {role}.jsonl.gz or {role}.parquet nor a folder "
            f"{role}/ of such files; see docs/datasets.md"
        )
    return paths


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


def splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the judgement files of a folder by split; of several forms, one is taken."""
    return dict(sorted(layout_of(folder).qrels.items()))


def read_split(folder: Path, split: str) -> dict[str, dict[str, int]]:
    """Return the judgements of a split.

    Raises:
        DataError: The split does not exist (the message lists those of the folder), a line is malformed, or
            one pair has two grades.
    """
    parts = [read_qrels(path) for path in _require_split(folder, split)]
    if len(parts) == 1:
        return parts[0]
    merged = (
        (number, query_id, doc_id, grade)
        for number, part in enumerate(parts, 1)
        for query_id, grades in part.items()
        for doc_id, grade in grades.items()
    )
    return collect_qrels(f"{folder / 'qrels'}, split {split}, file", merged)


def _require_split(folder: Path, split: str) -> tuple[Path, ...]:
    files = splits(folder)
    if split not in files:
        raise DataError(
            f"{folder / 'qrels'}: no judgements for split {split!r}; "
            + (f"the folder has {', '.join(files)}" if files else "the folder has no judgements")
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
    if not fits_a_column(value):
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
