"""Documents, queries and judgements that a caller holds in memory: dictionaries, rows, or pandas data frames.

What is checked, and what is read as empty, is the same as for a folder. Messages name what was given and the
number of the row, counted from 1: ``documents:3: 'text' must be a string; id 'd3'``. A data frame is
recognised by what it can do, so that pandas is never imported.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.types import Document, Query
from llara_eval.datasets.folder import document_of, query_of, unique_queries

DOCUMENT_IDS = ("doc_id", "_id", "id", "docid", "docno")
"""Fields that may hold the identifier of a document, in the order in which they are looked for."""

QUERY_IDS = ("query_id", "_id", "id", "qid")
"""Fields that may hold the identifier of a query."""

_JUDGED_QUERIES = ("query_id", "query-id", "qid")
_JUDGED_DOCUMENTS = ("doc_id", "corpus-id", "docid", "docno")
_GRADES = ("relevance", "score", "grade")

Row = tuple[int, Mapping[str, Any], str]
"""Number, fields, and the name of the field with the identifier."""


def documents_of(values: Any) -> list[Document]:
    """Return documents.

    Args:
        values: Identifier → text, (title, text) or ``{"title": …, "text": …}``; or rows, each a
            :class:`Document`, an object with an identifier, (identifier, text) or (identifier, title, text);
            or a data frame.

    Raises:
        DataError: A row is malformed, or the values are nothing of this.
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
        DataError: A row is malformed, an identifier occurs twice, or the values are nothing of this.
    """
    rows = _rows("queries", values, QUERY_IDS)
    return unique_queries(
        "queries", ((number, query_of("queries", number, fields, key)) for number, fields, key in rows)
    )


def qrels_of(values: Any) -> dict[str, dict[str, int]]:
    """Return judgements: query_id → doc_id → grade.

    Args:
        values: The same, or a data frame with a judgement a row.

    Raises:
        DataError: A grade is not an integer, an identifier is empty, one pair has two grades, there are no
            judgements, or the values are nothing of this.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (query, document, value) in enumerate(_judgements(values), 1):
        query_id, doc_id = (_judged_id(number, identifier) for identifier in (query, document))
        grade = _grade(number, value)
        known = qrels.setdefault(query_id, {}).setdefault(doc_id, grade)
        if known != grade:
            raise DataError.at(
                "qrels", number, f"query {query_id!r} document {doc_id!r} is graded {known} and {grade}"
            )
    if not qrels:
        raise DataError("qrels: no judgements")
    return qrels


def _rows(origin: str, values: Any, id_fields: Sequence[str]) -> Iterator[Row]:
    """Yield number, fields and the name of the field with the identifier, of whatever was given."""
    if _is_frame(values):
        names = [_column(origin, values, id_fields), *({"title", "text"} & set(values.columns))]
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
    if isinstance(row, Document):  # the only one whose URL counts: in a folder, too, there are none
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
    """Return the fields of what stands beside an identifier."""
    if isinstance(value, Mapping):
        return {field: value[field] for field in ("title", "text") if field in value}
    if isinstance(value, tuple | list) and len(value) == 2:
        return {"title": value[0], "text": value[1]}
    return {"text": value}


def _judgements(values: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield query, document and grade of each judgement."""
    if _is_frame(values):
        fields = (_JUDGED_QUERIES, _JUDGED_DOCUMENTS, _GRADES)
        names = [_column("qrels", values, names) for names in fields]
        yield from zip(*(_cells(values, name) for name in names), strict=True)
        return
    if not isinstance(values, Mapping) or not all(isinstance(grades, Mapping) for grades in values.values()):
        raise DataError(
            f"qrels: expected query id → document id → grade, or a data frame; found {type(values).__name__}"
        )
    for query_id, grades in values.items():
        for doc_id, grade in grades.items():
            yield query_id, doc_id, grade


def _judged_id(number: int, value: Any) -> str:
    if not isinstance(value, str | bool) and isinstance(value, Integral):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise DataError.at("qrels", number, f"an identifier must be a non-empty string, found {value!r}")
    return value


def _grade(number: int, value: Any) -> int:
    """Return a grade as an integer; a column with gaps has become numbers like 1.0, which are integers."""
    if not isinstance(value, Real) or not float(value).is_integer():
        raise DataError.at("qrels", number, f"the grade {value!r} is not an integer")
    return int(float(value))


def _is_frame(values: Any) -> bool:
    return hasattr(values, "columns") and hasattr(values, "notna")


def _column(origin: str, frame: Any, names: Sequence[str]) -> str:
    """Return the first of the columns that a data frame has.

    Raises:
        DataError: It has none of them.
    """
    for name in names:
        if name in frame.columns:
            return name
    columns = ", ".join(map(str, frame.columns)) or "none"
    raise DataError(f"{origin}: expected a column {' or '.join(names)}; its columns: {columns}")


def _cells(frame: Any, name: str) -> list[Any]:
    """Return the cells of a column; what is missing is None."""
    column = frame[name].astype(object)
    cells: list[Any] = column.where(column.notna(), None).tolist()
    return cells
