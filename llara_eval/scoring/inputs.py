"""Runs and judgements as people have them in Python: files, dictionaries, data frames."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from llara_eval.core.errors import DataError
from llara_eval.core.frames import frame_column, is_frame
from llara_eval.core.types import Hits, Qrels, Run, as_ids
from llara_eval.scoring.ranking import rank
from llara_eval.scoring.trec import read_qrels, read_run

RunLike = Run | Hits | str | Path | Mapping[str, Mapping[str, float]] | Any
"""A run, hits, a run file, query_id → doc_id → score, or a data frame with a row for each hit."""

QrelsLike = str | Path | Mapping[str, Mapping[str, int]] | Any
"""A file of judgements, query_id → doc_id → grade, or a data frame with a row for each judgement."""

QUERY_COLUMNS = ("query_id", "query-id", "qid", "q_id")
DOCUMENT_COLUMNS = ("doc_id", "corpus-id", "docno", "docid", "pid")
SCORE_COLUMNS = ("score", "sim")
GRADE_COLUMNS = ("relevance", "grade", "label", "rel", "score")
"""What columns are called by ir_measures, BEIR, PyTerrier, ranx, MS MARCO and ourselves."""


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


def as_hits(found: Any) -> Hits:
    """Return what a search found as hits.

    Args:
        found: Hits, query_id → doc_id → score, or a data frame with a row for each hit.

    Raises:
        DataError: It is neither, an identifier is empty, or a score is not a number.
    """
    if isinstance(found, Hits):
        return found
    rows = list(_rows(found, SCORE_COLUMNS, "score"))
    queries: dict[str, int] = {}
    if isinstance(found, Mapping):
        queries = {_identifier(query_id): row for row, query_id in enumerate(found)}
    query = [queries.setdefault(query_id, len(queries)) for query_id, _, _ in rows]
    documents: dict[str, int] = {}
    doc = [documents.setdefault(doc_id, len(documents)) for _, doc_id, _ in rows]
    with np.errstate(over="ignore"):  # the canonical ranking refuses what is infinite
        score = np.array([value for _, _, value in rows], dtype=np.float64).astype(np.float32)
    return Hits(as_ids(queries), as_ids(documents), np.array(query, np.int64), np.array(doc, np.int64), score)


def as_qrels(qrels: QrelsLike) -> Qrels:
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
    for query_id, doc_id, grade in _rows(qrels, GRADE_COLUMNS, "relevance grade"):
        if not float(grade).is_integer():
            raise DataError(f"query {query_id!r} document {doc_id!r}: the grade {grade} is not an integer")
        known = judgements.setdefault(query_id, {}).setdefault(doc_id, int(grade))
        if known != int(grade):
            raise DataError(
                f"query {query_id!r} document {doc_id!r} is graded {known} and {int(grade)} in the judgements"
            )
    if not judgements:
        raise DataError("there are no judgements")
    return judgements


def _rows(table: Any, value_columns: tuple[str, ...], what: str) -> Iterable[tuple[str, str, float]]:
    """Yield (query_id, doc_id, value) of nested mappings or of a data frame.

    Raises:
        DataError: It is neither, an identifier is empty, or a value is not a number.
    """
    if is_frame(table):
        columns = (
            frame_column(table, QUERY_COLUMNS, "query id"),
            frame_column(table, DOCUMENT_COLUMNS, "document id"),
            frame_column(table, value_columns, what),
        )
        triples: Iterable[tuple[Any, Any, Any]] = zip(*columns, strict=True)
    elif isinstance(table, Mapping) and all(isinstance(values, Mapping) for values in table.values()):
        triples = (
            (query_id, doc_id, value)
            for query_id, values in table.items()
            for doc_id, value in values.items()
        )
    else:
        raise DataError(
            f"{type(table).__name__}: expected a file, a data frame, or a dictionary of dictionaries: "
            f"query id → document id → {what}"
        )
    for query_id, doc_id, value in triples:
        if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
            raise DataError(f"query {query_id!r} document {doc_id!r}: the {what} {value!r} is not a number")
        yield _identifier(query_id), _identifier(doc_id), float(value)


def _identifier(value: Any) -> str:
    """Return an identifier as text; an integer is one too, as data frames make them of digits.

    Raises:
        DataError: It is neither a text with something in it nor an integer.
    """
    if not isinstance(value, bool) and isinstance(value, Integral):
        return str(int(value))
    if not isinstance(value, str) or not value:
        raise DataError(f"{value!r} is not an identifier: a text that is not empty, or an integer")
    return value
