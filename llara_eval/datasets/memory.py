"""Documents and queries that a caller holds in memory: dictionaries, rows, or pandas data frames.

The checks are those of a folder, and so is what counts as empty. Messages name the argument and the
number of the row, counted from 1: ``documents:3: 'text' must be a string; id 'd3'``. A data frame is
recognised by its methods, so that pandas is never imported.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.frames import frame_column, is_frame
from llara_eval.core.types import Document, Query
from llara_eval.datasets.folder import document_of, query_of, unique_queries

DOCUMENT_IDS = ("doc_id", "_id", "id", "docid", "docno")
"""Fields that may hold the identifier of a document, in the order in which they are looked for."""

QUERY_IDS = ("query_id", "_id", "id", "qid")
"""Fields that may hold the identifier of a query."""

Row = tuple[int, Mapping[str, Any], str]
"""Number, fields, and the name of the field with the identifier."""


def documents_of(values: Any) -> list[Document]:
    """Return documents.

    Args:
        values: Identifier → text, (title, text) or ``{"title": …, "text": …}``; or rows, each a
            :class:`Document`, an object with an identifier, (identifier, text) or (identifier, title, text);
            or a data frame.

    Raises:
        DataError: A row is malformed, or the values have none of these forms.
    """
    rows = _rows("documents", values, DOCUMENT_IDS)
    return [
        document_of("documents", number, fields, key)._replace(url=fields.get("url", ""))
        for number, fields, key in rows
    ]


def queries_of(values: Any) -> dict[str, Query]:
    """Return queries by their identifier.

    Args:
        values: Identifier → text; or rows, each an object with an identifier or (identifier, text); or a
            data frame.

    Raises:
        DataError: A row is malformed, an identifier occurs twice, or the values have none of these forms.
    """
    rows = _rows("queries", values, QUERY_IDS)
    return unique_queries(
        "queries", ((number, query_of("queries", number, fields, key)) for number, fields, key in rows)
    )


def _rows(origin: str, values: Any, id_fields: Sequence[str]) -> Iterator[Row]:
    """Yield number, fields and the name of the field with the identifier, of each document or query."""
    if is_frame(values):
        names = [frame_column(origin, values, id_fields), *({"title", "text"} & set(values.columns))]
        for number, cells in enumerate(zip(*(_cells(values, name) for name in names), strict=True), 1):
            yield number, dict(zip(names, cells, strict=True)), names[0]
    elif isinstance(values, Mapping):
        for number, (identifier, content) in enumerate(values.items(), 1):
            yield number, {**_content(content), "id": identifier}, "id"
    elif isinstance(values, Iterable) and not isinstance(values, str | bytes):
        for number, row in enumerate(values, 1):
            yield _row(origin, number, row, id_fields)
    else:
        raise DataError(
            f"{origin}: expected a dictionary, rows or a data frame, found {type(values).__name__}"
        )


def _row(origin: str, number: int, row: Any, id_fields: Sequence[str]) -> Row:
    """Return the fields of a row that is an object, (identifier, content) or (identifier, title, text)."""
    if isinstance(row, Document):  # only a Document has a URL that counts, as rows of a folder have none
        return number, row._asdict(), "doc_id"
    if isinstance(row, Mapping):
        key = next((field for field in id_fields if field in row), None)
        return (number, row, id_fields[0]) if key is None else (number, {key: row[key], **_content(row)}, key)
    if isinstance(row, tuple | list) and len(row) in (2, 3):
        identifier, *content = row
        return number, {**_content(content[0] if len(content) == 1 else content), "id": identifier}, "id"
    raise DataError.at(
        origin, number, f"expected an object, (id, text) or (id, title, text); found {str(row)[:60]!r}"
    )


def _content(value: Any) -> dict[str, Any]:
    """Return the title and the text of a document or query."""
    if isinstance(value, Mapping):
        return {field: value[field] for field in ("title", "text") if field in value}
    if isinstance(value, tuple | list) and len(value) == 2:
        return {"title": value[0], "text": value[1]}
    return {"text": value}


def _cells(frame: Any, name: str) -> list[Any]:
    """Return the cells of a column; a missing value is None, as in polars but not in pandas."""
    column = frame[name]
    if hasattr(column, "notna"):
        column = column.astype(object).where(column.notna(), None)
    return list(column.to_list())
