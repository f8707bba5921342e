"""Judgements as files.

Lines have four columns (TREC and MS MARCO: ``query_id 0 doc_id grade``) or three (BEIR), and the first line
may name them. JSON holds query → document → grade (ranx, pytrec_eval), and JSON Lines and Parquet hold rows
with named columns, as on the hub; without a column of grades, every row is relevant with grade 1, as in
NanoBEIR. All but Parquet may be gzipped.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

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
        return checked_qrels(path, columns.cells_of(path, columns.read_json(path), GRADE_COLUMNS, "grade"))
    form, valid = cells.sniff(path, lambda line: len(line) in (3, 4))
    if not valid:
        raise DataError.at(path, 1, f"{form.columns} columns; judgements have 4 (TREC) or 3 (BEIR)")
    return collect_qrels(path, _judgements(path, form))


def checked_qrels(origin: Path | str, judgements: Iterable[Cells]) -> dict[str, dict[str, int]]:
    """Collect judgements whose cells were not text.

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
                columns.grade(origin, number, grade),
            )
            for number, query_id, doc_id, grade in judgements
        ),
    )


def _judgements(path: Path, form: cells.Form) -> Iterator[tuple[int, str, str, int]]:
    for index, (number, line) in enumerate(cells.rows(path, form)):
        if index == 0 and columns.is_header(line):
            continue
        query_id, doc_id, grade = line[0], line[-2], columns.grade_of_text(path, number, line[-1].strip())
        if not query_id or not doc_id:
            raise DataError.at(path, number, "an identifier is empty")
        yield number, query_id, doc_id, grade


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
