"""The canonical ranking, which makes every run of this project.

Tools break ties in different ways, and some tools contradict themselves. Therefore ties are broken once:
documents are sorted by descending score, then by descending document id as a byte string (the rule of
trec_eval). The scores are then made strictly decreasing in float32, so that every tool rebuilds this order.
A system that has an order of ties of its own has lowered the scores of tied documents before.
"""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.types import Hits, Ids, Run, as_ids

_LARGEST_FLOAT32 = 0x7F7FFFFF
"""The bits of the largest finite float32, which are also its number of steps above zero."""

_SIGN = np.int32(-(2**31))
"""The bit of a float32's sign."""


def rank(hits: Hits, *, depth: int, drop_own_ids: bool = False) -> Run:
    """Order hits canonically and cut each query's ranking.

    Args:
        hits: The hits of a retriever. To reveal ties at the cut, a query should have one hit more than
            ``depth`` (two more with ``drop_own_ids``) if the collection has that many documents.
        depth: The most documents kept for a query.
        drop_own_ids: Whether to drop a document with the id of the query, for data sets whose queries are
            documents (ArguAna, Quora).

    Returns:
        A run over ``hits.query_ids``, in that order; a query without hits has an empty ranking.

    Raises:
        DataError: A score is NaN or infinite, or a document occurs twice for one query.
    """
    _refuse_non_finite(hits)
    key = np.left_shift(hits.query, 32, dtype=np.int64)  # sorts by query, then by descending score
    key -= _steps(hits.score)
    order = np.argsort(key, kind="stable")
    key, query, score = key[order], hits.query[order], hits.score[order]
    untouched = score if hits.untouched is None else hits.untouched[order]
    doc_ids = hits.doc_ids[hits.doc[order]]
    _refuse_repeats(hits.query_ids, _offsets(query, len(hits.query_ids)), doc_ids)
    if drop_own_ids:
        kept = doc_ids != hits.query_ids[query]
        key, query, score, doc_ids = key[kept], query[kept], score[kept], doc_ids[kept]
        untouched = untouched[kept]

    _break_ties(doc_ids, _equals_next(key))
    ties_next = _equals_next(query) & _equals_next(untouched)
    inside = np.arange(len(query)) - _offsets(query, len(hits.query_ids))[query] < depth
    offsets = _offsets(query[inside], len(hits.query_ids))
    return Run(
        query_ids=hits.query_ids,
        offsets=offsets,
        doc_ids=doc_ids[inside],
        scores=strictly_decreasing(score[inside], offsets),
        ties_next=ties_next[inside],
    )


def best_passages(hits: Hits) -> Hits:
    """Turn hits of passages into hits of documents: a document has the score of its best passage (MaxP).

    The ids of passages are ``<document id>#<number>``. A document occurs at most once for a query.
    Source: Dai and Callan, "Deeper Text Understanding for IR with Contextual Neural Language Modeling", SIGIR
    2019.
    """
    doc_of_passage = as_ids(passage_id.rpartition("#")[0] for passage_id in hits.doc_ids)
    doc_ids, doc_index = np.unique(doc_of_passage, return_inverse=True)
    doc = doc_index[hits.doc]
    order = np.lexsort((-hits.score, doc, hits.query))
    query, doc, score = hits.query[order], doc[order], hits.score[order]
    first = np.ones(len(query), dtype=np.bool_)
    first[1:] = (query[1:] != query[:-1]) | (doc[1:] != doc[:-1])
    untouched = None if hits.untouched is None else hits.untouched[order][first]
    return Hits(hits.query_ids, doc_ids, query[first], doc[first], score[first], untouched)


def strictly_decreasing(scores: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Lower tied scores by as few float32 steps as make the scores of each query strictly decreasing.

    Let ``o[i]`` be the number of float32 steps from zero to a score. The lowered scores are
    ``t[i] = min(o[i], t[i-1] - 1)``, and ``t[i] + i`` is therefore a running minimum of ``o[i] + i``.
    The scores (H,) are finite and non-increasing within a query; ``offsets`` are those of a :class:`Run`.

    Raises:
        DataError: Too few float32 values are left below a tie.
    """
    steps = _steps(scores)
    for start, end in pairwise(offsets.tolist()):
        index = np.arange(end - start)
        lowered = np.minimum.accumulate(steps[start:end] + index) - index
        if end > start and lowered[-1] < -_LARGEST_FLOAT32:
            raise DataError("scores too close to the smallest float32 value to be told apart")
        steps[start:end] = lowered
    return np.where(steps >= 0, steps, -steps | _SIGN).view(np.float32)


def _steps(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return how many float32 steps each score is above zero."""
    bits = (np.asarray(scores, dtype=np.float32) + np.float32(0.0)).view(np.int32)  # -0.0 becomes 0.0
    return np.where(bits >= 0, bits, -(bits & ~_SIGN))


def _offsets(query: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the positions (count + 1,) in a sorted column (H,) of query indices where each query begins."""
    return np.searchsorted(query, np.arange(count + 1)).astype(np.int64)


def _equals_next(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each value whether the next one is equal."""
    equal = np.zeros(len(values), dtype=np.bool_)
    equal[:-1] = values[:-1] == values[1:]
    return equal


def _break_ties(doc_ids: Ids, equals_next: NDArray[np.bool_]) -> None:
    """Sort tied documents in place by descending id (the order of code points is that of bytes)."""
    bounds = np.flatnonzero(np.diff(equals_next, prepend=False))
    for start, last in bounds.reshape(-1, 2).tolist():
        doc_ids[start : last + 1] = sorted(doc_ids[start : last + 1].tolist(), reverse=True)


def _refuse_non_finite(hits: Hits) -> None:
    bad = np.flatnonzero(~np.isfinite(hits.score))
    if len(bad):
        examples = ", ".join(
            f"query {hits.query_ids[hits.query[i]]!r} document {hits.doc_ids[hits.doc[i]]!r} "
            f"({hits.score[i]})"
            for i in bad[:3]
        )
        raise DataError(f"{len(bad)} scores are NaN or infinite: {examples}")


def _refuse_repeats(query_ids: Ids, offsets: NDArray[np.int64], doc_ids: Ids) -> None:
    """Raise a DataError if a document occurs twice for one query, with any scores."""
    repeats: list[tuple[str, str]] = []
    for query_id, (start, end) in zip(query_ids, pairwise(offsets.tolist()), strict=True):
        documents = doc_ids[start:end].tolist()
        if len(set(documents)) < len(documents):
            surplus = Counter(documents) - Counter(set(documents))
            repeats += [(query_id, doc_id) for doc_id in surplus.elements()]
    if repeats:
        query_id, doc_id = repeats[0]
        raise DataError(
            f"document {doc_id!r} is ranked more than once for query {query_id!r} "
            f"({len(repeats)} such repeats in the run)"
        )
