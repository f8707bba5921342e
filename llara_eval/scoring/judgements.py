"""Judgements as files.

Lines have four columns (TREC and MS MARCO: ``query_id 0 doc_id grade``) or three (BEIR), and the first line
may name them. JSON holds query → document → grade (ranx, pytrec_eval), and JSON Lines and Parquet hold rows
with named columns, as on the hub; without a column of grades, every row is relevant with grade 1, as in
NanoBEIR. All but Parquet may be gzipped.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.tables import is_table, rows
from llara_eval.scoring import cells, columns
from llara_eval.scoring.columns import GRADE_COLUMNS, Cells

_COLUMNS = {*columns.QUERY_COLUMNS, *columns.DOCUMENT_COLUMNS, *GRADE_COLUMNS}


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read judgements; the ending and the number of columns tell the form.

    Raises:
        DataError: The file is missing or empty, a line is malformed, or one pair has two grades.
    """
    if is_table(path):
        return checked_qrels(
            path, columns.cells_of_rows(path, rows(path, _COLUMNS), GRADE_COLUMNS, default=1)
        )
    if columns.is_json(path):
        return checked_qrels(path, columns.cells_of_table(path, columns.read_json(path), GRADE_COLUMNS))
    number, form, valid = cells.sniff(path, lambda line: len(line) in (3, 4))
    if not valid:
        raise DataError.at(path, number, f"{form.columns} columns; judgements have 4 (TREC) or 3 (BEIR)")
    return checked_qrels(path, _cells_of_lines(path, form), columns.grade_of_text)


def checked_qrels(
    origin: Path | str,
    judgements: Iterable[Cells],
    as_grade: Callable[[Path | str, int, Any], int] = columns.grade,
) -> dict[str, dict[str, int]]:
    """Check and collect judgements.

    Args:
        origin: The name of the source in messages.
        judgements: The cells of each judgement.
        as_grade: Returns the grade in a cell; see :func:`llara_eval.scoring.columns.grade`.

    Raises:
        DataError: A cell is malformed, one pair has two grades, or there are no judgements.
    """
    return collect_qrels(
        origin,
        (
            (
                number,
                columns.identifier(origin, number, query_id),
                columns.identifier(origin, number, doc_id),
                as_grade(origin, number, grade),
            )
            for number, query_id, doc_id, grade in judgements
        ),
    )


def _cells_of_lines(path: Path, form: cells.Form) -> Iterator[Cells]:
    """Yield the cells of each line but a header."""
    for index, (number, line) in enumerate(cells.rows(path, form)):
        if index > 0 or not columns.is_header(line):
            yield number, line[0], line[-2], line[-1].strip()


def collect_qrels(
    origin: Path | str, judgements: Iterable[tuple[int, str, str, int]]
) -> dict[str, dict[str, int]]:
    """Collect judgements (line number, query_id, doc_id, grade) as query_id → doc_id → grade.

    Raises:
        DataError: One pair has two grades, or there are no judgements.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, query_id, doc_id, grade in judgements:
        earlier = qrels.setdefault(query_id, {}).setdefault(doc_id, grade)
        if earlier != grade:
            pair = f"query {query_id!r} document {doc_id!r}"
            raise DataError.at(origin, number, f"{pair} is graded {earlier} and {grade}")
    if not qrels:
        raise DataError(f"{origin}: no judgements")
    return qrels
