"""Runs and judgements as people have them in Python: files, dictionaries, data frames."""

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from llara_eval.core.errors import DataError
from llara_eval.core.frames import frame_column, is_frame
from llara_eval.core.types import Hits, Run, as_ids
from llara_eval.scoring.ranking import rank
from llara_eval.scoring.trec import read_qrels, read_run

RunLike = Run | Hits | str | Path | Mapping[str, Mapping[str, float]] | Any
"""A run, hits, a run file, query_id → doc_id → score, or a data frame with a row for each hit."""

QrelsLike = str | Path | Mapping[str, Mapping[str, int]] | Any
"""A file of judgements, query_id → doc_id → grade, or a data frame with a row for each judgement."""

QUERY_COLUMNS = ("query_id", "query-id", "qid", "q_id")
DOCUMENT_COLUMNS = ("doc_id", "corpus-id", "docno", "docid", "pid")
SCORE_COLUMNS = ("score", "sim")
GRADE_COLUMNS = ("relevance", "score", "grade", "label", "rel")
"""What columns are called by ir_measures, BEIR, PyTerrier, ranx, MS MARCO and ourselves; the first counts."""


def as_run(run: RunLike) -> Run:
    """Return a run as the canonical ranking orders it, whatever form it comes in.

    Args:
        run: See :data:`RunLike`. A data frame has one of :data:`QUERY_COLUMNS`, of
            :data:`DOCUMENT_COLUMNS` and of :data:`SCORE_COLUMNS`; a ``rank`` column is ignored, as that of
            a TREC file is.

    Raises:
        DataError: An identifier is empty, a score is not a finite number, or a document occurs twice for one
            query; or a file is malformed.
    """
    if isinstance(run, Run):
        return run
    if isinstance(run, str | Path):
        return read_run(Path(run).expanduser())
    hits = as_hits(run)
    return rank(hits, depth=max(1, len(hits.score)))


def as_hits(hits: Any) -> Hits:
    """Return what a search found as hits.

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
    queries: dict[str, int] = {}
    named = hits if isinstance(hits, Mapping) else ()  # a query without hits is a part of the run, too
    for number, query_id in enumerate(named, 1):
        queries.setdefault(_identifier("run", number, query_id), len(queries))
    query = [queries.setdefault(query_id, len(queries)) for query_id, _, _ in rows]
    documents: dict[str, int] = {}
    doc = [documents.setdefault(doc_id, len(documents)) for _, doc_id, _ in rows]
    with np.errstate(over="ignore"):  # the canonical ranking refuses what is infinite
        score = np.array([value for _, _, value in rows], dtype=np.float64).astype(np.float32)
    return Hits(as_ids(queries), as_ids(documents), np.array(query, np.int64), np.array(doc, np.int64), score)


def as_qrels(qrels: QrelsLike) -> dict[str, dict[str, int]]:
    """Return judgements as query_id → doc_id → grade, whatever form they come in.

    Args:
        qrels: See :data:`QrelsLike`. A data frame has one of :data:`QUERY_COLUMNS`, of
            :data:`DOCUMENT_COLUMNS` and of :data:`GRADE_COLUMNS`.

    Raises:
        DataError: There are no judgements, a grade is not an integer, an identifier is empty, or one pair has
            two grades; or a file is malformed.
    """
    if isinstance(qrels, str | Path):
        return read_qrels(Path(qrels).expanduser())
    judgements: dict[str, dict[str, int]] = {}
    for number, query, document, value in _rows("qrels", qrels, GRADE_COLUMNS, "grade"):
        query_id, doc_id = (_identifier("qrels", number, identifier) for identifier in (query, document))
        grade = _grade(number, value)
        known = judgements.setdefault(query_id, {}).setdefault(doc_id, grade)
        if known != grade:
            raise DataError.at(
                "qrels", number, f"query {query_id!r} document {doc_id!r} is graded {known} and {grade}"
            )
    if not judgements:
        raise DataError("qrels: no judgements")
    return judgements


def _rows(
    origin: str, table: Any, value_columns: tuple[str, ...], what: str
) -> Iterable[tuple[int, Any, Any, Any]]:
    """Yield (row number from 1, query_id, doc_id, value) of nested mappings or of a data frame."""
    if is_frame(table):
        columns = [
            table[frame_column(origin, table, names)].to_list()
            for names in (QUERY_COLUMNS, DOCUMENT_COLUMNS, value_columns)
        ]
        rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True)
    elif isinstance(table, Mapping) and all(isinstance(values, Mapping) for values in table.values()):
        rows = ((query_id, *item) for query_id, values in table.items() for item in values.items())
    else:
        raise DataError(
            f"{origin}: expected query id → document id → {what}, a data frame or a file; "
            f"found {type(table).__name__}"
        )
    for number, (query_id, doc_id, value) in enumerate(rows, 1):
        yield number, query_id, doc_id, value


def _identifier(origin: str, number: int, value: Any) -> str:
    """Return an identifier as text; an integer is one too, as data frames make them of digits."""
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
    """Return a grade as an integer; a column with gaps has become numbers like 1.0, which are integers."""
    if not isinstance(value, Real) or not float(value).is_integer():
        raise DataError.at("qrels", number, f"the grade {value!r} is not an integer")
    return int(float(value))
