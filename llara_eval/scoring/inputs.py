"""Runs and judgements in the forms that people have in Python: files, dictionaries, data frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llara_eval.core.paths import user_path
from llara_eval.core.types import Hits, Run
from llara_eval.scoring.columns import GRADE_COLUMNS, SCORE_COLUMNS, cells_of_table
from llara_eval.scoring.judgements import checked_qrels, read_qrels
from llara_eval.scoring.ranking import rank
from llara_eval.scoring.trec import checked_hits, read_run

RunLike = Run | Hits | str | Path | Mapping[str, Mapping[str, float]] | Any
"""A run, hits, a run file, query_id → doc_id → score, or a data frame with a row for each hit."""

QrelsLike = str | Path | Mapping[str, Mapping[str, int]] | Any
"""A file of judgements, query_id → doc_id → grade, or a data frame with a row for each judgement."""


def as_run(run: RunLike) -> Run:
    """Return a run in any form as a canonical run.

    Args:
        run: See :data:`RunLike`. A data frame has a column of queries, of documents and of scores, by one of
            the names in :mod:`llara_eval.scoring.columns`; a ``rank`` column is ignored, as in a TREC file.

    Raises:
        DataError: An identifier is empty, a score is not a finite number, a document occurs twice for one
            query, or a file is malformed.
    """
    if isinstance(run, Run):
        return run
    if isinstance(run, str | Path):
        return read_run(user_path(run))
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
    query_ids = hits if isinstance(hits, Mapping) else ()  # a query without hits is part of the run, too
    return checked_hits("run", cells_of_table("run", hits, SCORE_COLUMNS), query_ids)


def as_qrels(qrels: QrelsLike) -> dict[str, dict[str, int]]:
    """Return judgements in any form as query_id → doc_id → grade.

    Args:
        qrels: See :data:`QrelsLike`. A data frame has a column of queries, of documents and of grades, by one
            of the names in :mod:`llara_eval.scoring.columns`.

    Raises:
        DataError: There are no judgements, a grade is not an integer, an identifier is empty, one pair has
            two grades, or a file is malformed.
    """
    if isinstance(qrels, str | Path):
        return read_qrels(user_path(qrels))
    return checked_qrels("qrels", cells_of_table("qrels", qrels, GRADE_COLUMNS))
