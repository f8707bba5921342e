"""Runs and judgements in the forms that people have in Python: files, dictionaries, data frames."""

from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.core.frames import frame_column, is_frame
from llara_eval.core.types import Hits, Run
from llara_eval.scoring.ranking import rank
from llara_eval.scoring.trec import collect_qrels, read_qrels, read_run

RunLike = Run | Hits | str | Path | Mapping[str, Mapping[str, float]] | Any
"""A run, hits, a run file, query_id → doc_id → score, or a data frame with a row for each hit."""

QrelsLike = str | Path | Mapping[str, Mapping[str, int]] | Any
"""A file of judgements, query_id → doc_id → grade, or a data frame with a row for each judgement."""

QUERY_COLUMNS = ("query_id", "query-id", "qid", "q_id")
DOCUMENT_COLUMNS = ("doc_id", "corpus-id", "docno", "docid", "pid")
SCORE_COLUMNS = ("score", "sim")
GRADE_COLUMNS = ("relevance", "score", "grade", "label", "rel")
"""Names of columns in ir_measures, BEIR, PyTerrier, ranx, MS MARCO and here; the first that exists counts."""


def as_run(run: RunLike) -> Run:
    """Return a run in any form as a canonical run.

    Args:
        run: See :data:`RunLike`. A data frame has one of :data:`QUERY_COLUMNS`, of
            :data:`DOCUMENT_COLUMNS` and of :data:`SCORE_COLUMNS`; a ``rank`` column is ignored, as in a
            TREC file.

    Raises:
        DataError: An identifier is empty, a score is not a finite number, a document occurs twice for one
            query, or a file is malformed.
    """
    if isinstance(run, Run):
        return run
    if isinstance(run, str | Path):
        return read_run(Path(run).expanduser())
    hits = as_hits(run)
    return rank(hits, depth=max(1, len(hits.score)))


def as_hits(hits: Any) -> Hits:
    """Return the result of a search as hits.

    Args:
        hits: Hits, query_id → doc_id → score, or a data frame with a row for each hit.

    Raises:
        DataError: The value has none of these forms, an identifier is empty, or a score is not a number.
    """
    if isinstance(hits, Hits):
        return hits
    rows = [
        (_identifier("run", number, query_id), _identifier("run", number, doc_id), _score(number, value))
        for number, query_id, doc_id, value in _rows("run", hits, SCORE_COLUMNS, "score")
    ]
    query_ids = hits if isinstance(hits, Mapping) else ()  # a query without hits is part of the run, too
    return Hits.of_rows(
        rows, (_identifier("run", number, query_id) for number, query_id in enumerate(query_ids, 1))
    )


def as_qrels(qrels: QrelsLike) -> dict[str, dict[str, int]]:
    """Return judgements in any form as query_id → doc_id → grade.

    Args:
        qrels: See :data:`QrelsLike`. A data frame has one of :data:`QUERY_COLUMNS`, of
            :data:`DOCUMENT_COLUMNS` and of :data:`GRADE_COLUMNS`.

    Raises:
        DataError: There are no judgements, a grade is not an integer, an identifier is empty, one pair has
            two grades, or a file is malformed.
    """
    if isinstance(qrels, str | Path):
        return read_qrels(Path(qrels).expanduser())
    return collect_qrels(
        "qrels",
        (
            (
                number,
                _identifier("qrels", number, query_id),
                _identifier("qrels", number, doc_id),
                _grade(number, grade),
            )
            for number, query_id, doc_id, grade in _rows("qrels", qrels, GRADE_COLUMNS, "grade")
        ),
    )


def _rows(
    origin: str, table: Any, value_columns: tuple[str, ...], value_name: str
) -> Iterator[tuple[int, Any, Any, Any]]:
    """Yield (row number from 1, query_id, doc_id, value) of nested mappings or of a data frame."""
    if is_frame(table):
        columns = [
            table[frame_column(origin, table, names)].to_list()
            for names in (QUERY_COLUMNS, DOCUMENT_COLUMNS, value_columns)
        ]
        yield from zip(range(1, len(table) + 1), *columns, strict=True)
    elif isinstance(table, Mapping) and all(isinstance(values, Mapping) for values in table.values()):
        pairs = ((query_id, *item) for query_id, values in table.items() for item in values.items())
        for number, (query_id, doc_id, value) in enumerate(pairs, 1):
            yield number, query_id, doc_id, value
    else:
        raise DataError(
            f"{origin}: expected query id → document id → {value_name}, a data frame or a file; "
            f"found {type(table).__name__}"
        )


def _identifier(origin: str, number: int, value: Any) -> str:
    """Return an identifier as text; data frames turn identifiers made of digits into integers."""
    if not isinstance(value, bool) and isinstance(value, Integral):
        return str(int(value))
    if not isinstance(value, str) or not value:
        raise DataError.at(origin, number, f"an identifier must be a non-empty string, found {value!r}")
    return value


def _score(number: int, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise DataError.at("run", number, f"the score {value!r} is not a number")
    return float(value)


def _grade(number: int, value: Any) -> int:
    """Return a grade as an integer; data frames turn a column with gaps into numbers such as 1.0."""
    if not isinstance(value, Real) or not float(value).is_integer():
        raise DataError.at("qrels", number, f"the grade {value!r} is not an integer")
    return int(float(value))
