"""Hits and judgements as rows of cells: from nested mappings, data frames, and rows of files.

A row has the identifier of a query, the identifier of a document, and a value: a score or a grade.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.frames import frame_column, is_frame
from llara_eval.core.tables import open_json

QUERY_COLUMNS = ("query_id", "query-id", "qid", "q_id", "topic")
DOCUMENT_COLUMNS = ("doc_id", "corpus-id", "corpus_id", "docno", "docid", "pid", "document_id")
SCORE_COLUMNS = ("score", "sim")
GRADE_COLUMNS = ("relevance", "score", "grade", "label", "rel")
"""Names of columns in ir_measures, BEIR, PyTerrier, ranx, MS MARCO and here; the first that exists counts."""

TOO_LARGE = 2.0**128 - 2.0**103
"""The smallest number that rounds to infinity in float32."""

LARGEST_GRADE = 2**31 - 1
"""Grades lie between this and its negative, so that they are integers of 32 bits in all tools; trec_eval's
documentation of judgements (``get_qrels.c``) allows -127 to 127."""

_BRIEF = 40
"""The most characters of a value that a message shows."""

Cells = tuple[int, Any, Any, Any]
"""The number of a row, counted from 1, then the query, the document and the value as they were found."""


def cells_of_table(origin: Path | str, table: Any, value_columns: tuple[str, ...]) -> Iterator[Cells]:
    """Yield the cells of nested mappings or of a data frame.

    Raises:
        DataError: The table has another form, or lacks a column.
    """
    if is_frame(table):
        columns = [
            table[frame_column(str(origin), table, names)].to_list()
            for names in (QUERY_COLUMNS, DOCUMENT_COLUMNS, value_columns)
        ]
        yield from zip(range(1, len(table) + 1), *columns, strict=True)
    elif isinstance(table, Mapping) and all(isinstance(values, Mapping) for values in table.values()):
        pairs = ((query_id, *item) for query_id, values in table.items() for item in values.items())
        for number, (query_id, doc_id, value) in enumerate(pairs, 1):
            yield number, query_id, doc_id, value
    else:
        raise DataError(
            f"{origin}: expected query id → document id → {value_columns[0]}, a data frame or a file; "
            f"found {type(table).__name__}"
        )


def cells_of_rows(
    path: Path,
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    value_columns: tuple[str, ...],
    default: int | None = None,
) -> Iterator[Cells]:
    """Yield the cells of the rows of a file; a list of documents in one row gives as many cells.

    Args:
        path: The file, for messages.
        rows: Number and fields of each row.
        value_columns: The names of the value's column, in order of precedence.
        default: The value in a file whose first row has no such column; None where there must be one.

    Raises:
        DataError: There are no rows, a row lacks a column, or it has a value where the first row has none.
    """
    use_default = None
    for number, row in rows:
        query_id, doc_ids = (_field(path, number, row, names) for names in (QUERY_COLUMNS, DOCUMENT_COLUMNS))
        has_value = any(name in row for name in value_columns)
        if use_default is None:
            use_default = default is not None and not has_value
        if use_default and has_value:
            raise DataError.at(path, number, f"has a {value_columns[0]}, which the first row lacks")
        value = default if use_default else _field(path, number, row, value_columns)
        for doc_id in doc_ids if isinstance(doc_ids, list) else [doc_ids]:
            yield number, query_id, doc_id, value
    if use_default is None:
        raise DataError(f"{path}: the file is empty")


def _field(path: Path, number: int, row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the field of a row that has the first of several names.

    Raises:
        DataError: The row has no field of these names.
    """
    for name in names:
        if name in row:
            return row[name]
    raise DataError.at(path, number, f"expected a field {' or '.join(names)}; found {', '.join(row)}")


def is_header(cells: list[str]) -> bool:
    """Return whether the cells of a line name the columns of judgements: query, document and grade."""
    query, doc, grade = (cell.strip().lower() for cell in (cells[0], cells[-2], cells[-1]))
    return query in QUERY_COLUMNS and doc in DOCUMENT_COLUMNS and grade in GRADE_COLUMNS


def identifier(origin: Path | str, number: int, value: Any) -> str:
    """Return the identifier in a cell as text; data frames turn identifiers made of digits into integers.

    Raises:
        DataError: The value is empty, or neither text nor an integer.
    """
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, bool) and isinstance(value, Integral):
        return str(int(value))
    raise DataError.at(origin, number, f"an identifier must be a non-empty string, found {value!r}")


def fits_a_column(identifier: str) -> bool:
    """Return whether a run file can hold an identifier: a tab, or a space at its ends, breaks the line."""
    return bool(identifier) and identifier == identifier.strip() and identifier.isprintable()


def score(origin: Path | str, number: int, value: Any) -> float:
    """Return the score in a cell.

    Raises:
        DataError: The value is not a number, or float32 cannot hold it.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise DataError.at(origin, number, f"the score {_brief(value)} is not a number")
    try:
        as_float = float(value)
    except OverflowError:
        as_float = math.inf
    if not abs(as_float) < TOO_LARGE:
        raise DataError.at(origin, number, f"the score {_brief(value)} is not a finite (float32) number")
    return as_float


def grade(origin: Path | str, number: int, value: Any) -> int:
    """Return the grade in a cell; data frames with gaps turn integers into numbers such as 1.0.

    Raises:
        DataError: The value is not an integer, or too large for a grade.
    """
    if isinstance(value, Integral):
        return _within(origin, number, int(value), value)
    if not isinstance(value, Real) or not float(value).is_integer():
        raise DataError.at(origin, number, f"the grade {_brief(value)} is not an integer")
    return _within(origin, number, int(float(value)), value)


def grade_of_text(origin: Path | str, number: int, text: str) -> int:
    """Return the grade in a line of text, an integer that may be written as ``1.0``.

    Raises:
        DataError: The text is not an integer, or too large for a grade.
    """
    match = re.fullmatch(r"([+-]?)0*([0-9]+)(\.0*)?", text, re.ASCII)
    if match is None:
        raise DataError.at(origin, number, f"the grade {_brief(text)} is not an integer")
    sign, digits, _ = match.groups()
    first_digits = digits[: 1 + len(str(LARGEST_GRADE))]  # Python reads no integer of thousands of digits
    return _within(origin, number, int(sign + first_digits), text)


def _within(origin: Path | str, number: int, grade: int, value: Any) -> int:
    """Return a grade; raise a DataError that shows the value if it is too large."""
    if abs(grade) > LARGEST_GRADE:
        raise DataError.at(
            origin, number, f"the grade {_brief(value)} is beyond {LARGEST_GRADE:,}, the largest grade"
        )
    return grade


def _brief(value: Any) -> str:
    """Return a value as a message shows it; Python prints no integer of thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        return "of thousands of digits"
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}…"


def read_json(path: Path) -> Any:
    """Return the object in a file of JSON (ranx, pytrec_eval, BEIR: query → document → value).

    Raises:
        DataError: The file is not JSON, or an object has one key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"{path}: the key {repeated!r} is twice in one object; which value is meant?")
        return values

    try:
        return json.loads(open_json(path), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not usable JSON ({error})") from error


def is_json(path: Path) -> bool:
    """Return whether the name of a file says that it holds one JSON object."""
    return path.name.removesuffix(".gz").endswith(".json")
