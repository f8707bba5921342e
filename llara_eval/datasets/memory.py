"""Documents and queries in memory: dictionaries, rows, or data frames of pandas or polars.

The checks are those of a folder. Messages name the argument and the number of the row, counted from 1:
``documents:3: 'text' must be a string; id 'd3'``. A data frame is recognised by its methods, so that pandas
is not imported.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.frames import frame_column, is_frame
from llara_eval.core.types import Document, Query
from llara_eval.datasets.folder import DOCUMENT_IDS, QUERY_IDS, document_of, query_of, unique_queries

_Row = tuple[int, Mapping[str, Any], str]
"""The number of a row, its fields, and the name of the field with the identifier."""


def documents_of(values: Any) -> list[Document]:
    """Return the documents of a caller's object.

    Args:
        values: Identifier → text, (title, text) or ``{"title": …, "text": …}``; or rows, each a
            :class:`Document`, a dictionary with an identifier, (identifier, text) or (identifier, title,
            text); or a data frame.

    Raises:
        DataError: A row is malformed, or the values have none of these forms.
    """
    return [
        document_of("documents", number, fields, id_field)._replace(url=fields.get("url", ""))
        for number, fields, id_field in _rows("documents", values, DOCUMENT_IDS)
    ]


def queries_of(values: Any) -> dict[str, Query]:
    """Return the queries of a caller's object by their identifier.

    Args:
        values: Identifier → text; or rows, each a dictionary with an identifier or (identifier, text); or a
            data frame.

    Raises:
        DataError: A row is malformed, an identifier occurs twice, or the values have none of these forms.
    """
    rows = _rows("queries", values, QUERY_IDS)
    return unique_queries("queries", ((row[0], query_of("queries", *row)) for row in rows))


def _rows(origin: str, values: Any, id_fields: Sequence[str]) -> Iterator[_Row]:
    """Yield a row for each document or query."""
    if is_frame(values):
        names = [frame_column(origin, values, id_fields), *({"title", "text"} & set(values.columns))]
        for number, cells in enumerate(zip(*(_cells(values, name) for name in names), strict=True), 1):
            yield number, dict(zip(names, cells, strict=True)), names[0]
    elif isinstance(values, Mapping):
        for number, (identifier, content) in enumerate(values.items(), 1):
            yield number, {**_content(content), "id": identifier}, "id"
    elif isinstance(values, Iterable) and not isinstance(values, str | bytes):
        for number, value in enumerate(values, 1):
            yield _row(origin, number, value, id_fields)
    else:
        raise DataError(
            f"{origin}: expected a dictionary, rows or a data frame, found {type(values).__name__}"
        )


def _row(origin: str, number: int, value: Any, id_fields: Sequence[str]) -> _Row:
    """Return the row of a dictionary, (identifier, content) or (identifier, title, text)."""
    if isinstance(value, Document):  # the one form whose URL is kept: rows of a BEIR folder have none
        return number, value._asdict(), "doc_id"
    if isinstance(value, Mapping):
        id_field = next((field for field in id_fields if field in value), None)
        if id_field is None:
            return number, value, id_fields[0]
        return number, {id_field: value[id_field], **_content(value)}, id_field
    if isinstance(value, tuple | list) and len(value) in (2, 3):
        identifier, *content = value
        return number, {**_content(content[0] if len(content) == 1 else content), "id": identifier}, "id"
    raise DataError.at(
        origin, number, f"expected an object, (id, text) or (id, title, text); found {str(value)[:60]!r}"
    )


def _content(value: Any) -> dict[str, Any]:
    """Return the title and the text of a document or query."""
    if isinstance(value, Mapping):
        return {field: value[field] for field in ("title", "text") if field in value}
    if isinstance(value, tuple | list) and len(value) == 2:
        return {"title": value[0], "text": value[1]}
    return {"text": value}


def _cells(frame: Any, name: str) -> list[Any]:
    """Return the cells of a column; pandas' marks of missing values become None, as polars has them."""
    column = frame[name]
    if hasattr(column, "notna"):
        column = column.astype(object).where(column.notna(), None)
    return list(column.to_list())
