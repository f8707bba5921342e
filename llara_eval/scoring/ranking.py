"""The one canonical ranking: every run in this project is made here.

Tools break ties differently, and one tool may disagree with itself, so ties are broken once and
written away: score descending, then document id descending as byte strings (trec_eval's rule), then
scores that strictly decrease in float32, from which every tool rebuilds exactly this order.
"""

from collections import Counter
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.types import Hits, Ids, Run, as_ids

_LARGEST_FLOAT32 = 0x7F7FFFFF
"""The bits of the largest finite float32: its steps above zero."""

_SIGN = np.int32(-(2**31))
"""The bit of a float32's sign."""


def rank(hits: Hits, *, depth: int, drop_own_ids: bool = False) -> Run:
    """Order hits canonically and cut each query's ranking.

    Args:
        hits: What a retriever found. To see ties at the cut, it should hold one hit more than
            ``depth`` (two more with ``drop_own_ids``) where the collection has that many.
        depth: The most documents kept for one query.
        drop_own_ids: Leave out a document whose id is the query's own id, for the data sets where
            queries are documents (ArguAna, Quora).

    Returns:
        A run over ``hits.query_ids``, in that order; a query without hits keeps an empty ranking.

    Raises:
        DataError: A score is NaN or infinite, or a document occurs twice for one query.
    """
    _refuse_non_finite(hits)
    key = np.left_shift(hits.query, 32, dtype=np.int64)  # one integer: by query, then by score descending
    key -= _steps(hits.score)
    order = np.argsort(key, kind="stable")
    key, query, score = key[order], hits.query[order], hits.score[order]
    doc_ids = hits.doc_ids[hits.doc[order]]
    _refuse_repeats(hits.query_ids, _offsets(query, len(hits.query_ids)), doc_ids)
    if drop_own_ids:
        kept = doc_ids != hits.query_ids[query]
        key, query, score, doc_ids = key[kept], query[kept], score[kept], doc_ids[kept]

    ties_next = np.zeros(len(key), dtype=np.bool_)
    ties_next[:-1] = key[:-1] == key[1:]
    _break_ties(doc_ids, ties_next)
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
    """Bring passages together to documents: each gets the score of its best passage (MaxP).

    Dai and Callan, "Deeper Text Understanding for IR with Contextual Neural Language Modeling", SIGIR
    2019.

    Args:
        hits: Of passages, whose ids are ``<document id>#<number>``.

    Returns:
        Hits of documents, each at most once for a query.
    """
    owners = as_ids(doc_id.rpartition("#")[0] for doc_id in hits.doc_ids)
    names, document = np.unique(owners, return_inverse=True)
    doc = document[hits.doc]
    order = np.lexsort((-hits.score, doc, hits.query))
    query, doc, score = hits.query[order], doc[order], hits.score[order]
    first = np.ones(len(query), dtype=np.bool_)
    first[1:] = (query[1:] != query[:-1]) | (doc[1:] != doc[:-1])
    return Hits(hits.query_ids, names, query[first], doc[first], score[first])


def strictly_decreasing(scores: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Lower tied scores by as few float32 steps as make each query's scores strictly decrease.

    On the number line of float32 values (each value mapped to an integer that counts representable
    steps) the wanted sequence is ``t[i] = min(o[i], t[i-1] - 1)``; with ``i`` added to both sides
    that is a running minimum.

    Args:
        scores: (H,) non-increasing within a query, finite.
        offsets: (Q + 1,) where each query's rows begin.

    Returns:
        (H,) float32, equal to ``scores`` wherever there was no tie.
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
    """Return how many representable steps each float32 is above zero."""
    bits = (np.asarray(scores, dtype=np.float32) + np.float32(0.0)).view(np.int32)  # -0.0 becomes 0.0
    return np.where(bits >= 0, bits, -(bits & ~_SIGN))


def _offsets(query: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return where the rows of each of so many queries begin, and their end, in a sorted column."""
    return np.searchsorted(query, np.arange(count + 1)).astype(np.int64)


def _break_ties(doc_ids: Ids, ties_next: NDArray[np.bool_]) -> None:
    """Sort each stretch of tied documents in place, largest id first (code-point order is byte order)."""
    edges = np.flatnonzero(np.diff(ties_next, prepend=False))
    for start, last in edges.reshape(-1, 2).tolist():
        doc_ids[start : last + 1] = sorted(doc_ids[start : last + 1].tolist(), reverse=True)


def _refuse_non_finite(hits: Hits) -> None:
    bad = np.flatnonzero(~np.isfinite(hits.score))
    if len(bad):
        shown = ", ".join(
            f"query {hits.query_ids[hits.query[i]]!r} document {hits.doc_ids[hits.doc[i]]!r} "
            f"({hits.score[i]})"
            for i in bad[:3]
        )
        raise DataError(f"{len(bad)} scores are NaN or infinite: {shown}")


def _refuse_repeats(query_ids: Ids, offsets: NDArray[np.int64], doc_ids: Ids) -> None:
    """Raise if a document occurs twice for one query, whatever its scores."""
    repeats = [
        (query_id, doc_id, times - 1)
        for query_id, (start, end) in zip(query_ids, pairwise(offsets.tolist()), strict=True)
        if len(set(found := doc_ids[start:end].tolist())) < len(found)
        for doc_id, times in Counter(found).items()
        if times > 1
    ]
    if repeats:
        query_id, doc_id, _ = repeats[0]
        raise DataError(
            f"document {doc_id!r} is ranked more than once for query {query_id!r} "
            f"({sum(times for *_, times in repeats)} such repeats in the run)"
        )
