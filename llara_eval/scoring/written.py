"""Reciprocal rank by the ranks as they are written in a run of MS MARCO, as its official script counts them.

Some published runs leave out ranks, or give two documents one rank. Everywhere else here, the documents are
ranked in their order and the gaps are closed; the two values then differ, and both are shown.
"""

import math
import re
from collections.abc import Iterable

import numpy as np

from llara_eval.core.types import Hits, Qrels

_MEASURE = re.compile(r"RR@(\d+)")


def has_gaps(hits: Hits) -> bool:
    """Return whether the ranks of any query are other than 1, 2, 3, …; scores are negated ranks."""
    order = np.lexsort((-hits.score, hits.query))
    query, rank = hits.query[order], -hits.score[order]
    position = np.arange(len(query)) - np.searchsorted(query, query) + 1
    return bool((rank != position).any())


def reciprocal_ranks(hits: Hits, qrels: Qrels, measures: Iterable[str]) -> dict[str, float]:
    """Return the means of the measures ``RR@k`` over all judged queries, by the ranks as they are written.

    The documents fill a list by their rank, a later one of the same rank replaces an earlier one, and ranks
    without a document stay empty (``msmarco_passage_eval.py`` of MS MARCO).

    Args:
        hits: The hits of a run without scores: the score of a hit is minus its rank.
        qrels: The judgements.
        measures: Names of measures; those that are not ``RR@k`` are passed over.
    """
    cutoffs = {name: int(match[1]) for name in measures if (match := _MEASURE.fullmatch(name))}
    rankings: dict[str, dict[int, str]] = {}
    inside = np.flatnonzero((-hits.score <= max(cutoffs.values(), default=0)) & (hits.score < 0))
    for hit in inside.tolist():
        doc_at_rank = rankings.setdefault(hits.query_ids[hits.query[hit]], {})
        doc_at_rank[round(-float(hits.score[hit]))] = hits.doc_ids[hits.doc[hit]]
    first_ranks = []
    for query_id, doc_at_rank in rankings.items():
        grades = qrels.get(query_id, {})
        relevant = (rank for rank, doc_id in doc_at_rank.items() if grades.get(doc_id, 0) > 0)
        first_ranks.append(min(relevant, default=math.inf))
    return {
        name: math.fsum(1 / rank for rank in first_ranks if rank <= cutoff) / len(qrels)
        for name, cutoff in cutoffs.items()
    }
