"""The one canonical ranking: every run in this project is made here.

Tools break ties differently, and one tool may disagree with itself, so ties are broken once and
written away: score descending, then document id descending as byte strings (trec_eval's rule), then
scores that strictly decrease in float32, from which every tool rebuilds exactly this order.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llara_eval.errors import DataError
from llara_eval.types import Hits, Ids, Run, as_ids

_LARGEST_FLOAT32 = 0x7F7FFFFF


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
    order = _order(hits)
    query, doc, score = hits.query[order], hits.doc[order], hits.score[order]
    _refuse_duplicates(hits, query, doc)
    if drop_own_ids:
        kept = doc != _own_rows(hits)[query]
        query, doc, score = query[kept], doc[kept], score[kept]

    starts = np.searchsorted(query, np.arange(len(hits.query_ids) + 1))
    ties_next = np.zeros(len(query), dtype=np.bool_)
    ties_next[:-1] = (query[:-1] == query[1:]) & (score[:-1] == score[1:])
    inside = np.arange(len(query)) - starts[query] < depth
    query, doc, score = query[inside], doc[inside], score[inside]
    offsets = np.searchsorted(query, np.arange(len(hits.query_ids) + 1))
    return Run(
        query_ids=hits.query_ids,
        offsets=offsets.astype(np.int64),
        doc_ids=hits.doc_ids[doc],
        scores=strictly_decreasing(score, offsets),
        ties_next=ties_next[inside],
    )


def best(hits: Hits, depth: int) -> NDArray[np.bool_]:
    """Return which hits (H,) are the first ``depth`` of their query in the canonical order."""
    order = _order(hits)
    query = hits.query[order]
    starts = np.searchsorted(query, np.arange(len(hits.query_ids)))
    chosen = np.zeros(len(order), dtype=np.bool_)
    chosen[order] = np.arange(len(order)) - starts[query] < depth
    return chosen


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
    bits = np.ascontiguousarray(scores + np.float32(0.0), dtype=np.float32).view(np.int32)
    steps = np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF)).astype(np.int64)
    out = np.empty_like(steps)
    for start, end in pairwise(offsets.tolist()):
        index = np.arange(end - start)
        out[start:end] = np.minimum.accumulate(steps[start:end] + index) - index
    if len(out) and out.min() < -_LARGEST_FLOAT32:
        raise DataError("scores too close to the smallest float32 value to be told apart")
    back = np.where(out >= 0, out, -out | np.int64(0x80000000))
    return back.astype(np.uint32).view(np.float32)


def _order(hits: Hits) -> NDArray[np.int64]:
    """Return the hits (H,) in canonical order, query after query."""
    return np.lexsort((-_places(hits.doc_ids)[hits.doc], -hits.score, hits.query))


def _places(ids: Ids) -> NDArray[np.int64]:
    """Return the place of each id in ascending byte order (for ``str``, code-point order is that)."""
    places = np.empty(len(ids), dtype=np.int64)
    places[np.argsort(ids, kind="stable")] = np.arange(len(ids))
    return places


def _own_rows(hits: Hits) -> NDArray[np.int64]:
    """Return, for each query, the row of the document with the query's id, or -1."""
    row_of = {doc_id: row for row, doc_id in enumerate(hits.doc_ids)}
    return np.array([row_of.get(query_id, -1) for query_id in hits.query_ids], dtype=np.int64)


def _refuse_non_finite(hits: Hits) -> None:
    bad = np.flatnonzero(~np.isfinite(hits.score))
    if len(bad):
        shown = ", ".join(
            f"query {hits.query_ids[hits.query[i]]!r} document {hits.doc_ids[hits.doc[i]]!r} "
            f"({hits.score[i]})"
            for i in bad[:3]
        )
        raise DataError(f"{len(bad)} scores are NaN or infinite: {shown}")


def _refuse_duplicates(hits: Hits, query: NDArray[np.int64], doc: NDArray[np.int64]) -> None:
    """Raise if a (query, document) pair occurs twice, whatever its scores."""
    pair = np.sort(query * (len(hits.doc_ids) + 1) + doc)
    twice = np.flatnonzero(pair[:-1] == pair[1:])
    if len(twice):
        query_row, doc_row = divmod(int(pair[twice[0]]), len(hits.doc_ids) + 1)
        raise DataError(
            f"document {hits.doc_ids[doc_row]!r} is ranked more than once for query "
            f"{hits.query_ids[query_row]!r} ({len(twice)} such repeats in the run)"
        )
