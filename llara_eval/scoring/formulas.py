"""The measures people ask for, computed from the ranks and grades of judged documents alone.

Documents nobody judged enter no formula, so that no run is ever turned into dictionaries. A grade below the
smallest relevant one (``rel``, at least 1) is not relevant, and a negative one gains nothing. Whatever is
divided by nothing is 0. The order of sums is trec_eval's, and so is every bit of the results.

Shapes: Q queries, J judged documents.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """Judged documents of Q rankings, query by query, each query's in the order of their ranks.

    Attributes:
        lengths: (Q,) documents in each ranking, judged or not.
        query: (J,) row of the query, ascending.
        rank: (J,) place in the query's ranking, from 1.
        grade: (J,) relevance grade.
    """

    lengths: NDArray[np.int64]
    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    grade: NDArray[np.int64]

    def where(self, kept: NDArray[np.bool_]) -> "Graded":
        """Keep some of the documents, at their ranks."""
        return Graded(self.lengths, self.query[kept], self.rank[kept], self.grade[kept])

    def relevant(self, rel: int, cutoff: float = math.inf) -> "Graded":
        """Keep the documents graded at least ``rel`` and ranked at most ``cutoff``."""
        return self.where((self.grade >= rel) & (self.rank <= cutoff))

    def total(self, values: Values | None = None) -> Values:
        """Return (Q,) sums of (J,) values, added in the order of ranks; of ones by default."""
        return np.bincount(self.query, values, minlength=len(self.lengths)).astype(np.float64)


Formula = Callable[[Graded, Graded, float, int], Values]
"""(found, ideal, cutoff, rel) → (Q,) values: ``found`` are the judged documents that a run found, ``ideal``
all that were judged, the best first; ``cutoff`` is the last rank looked at (infinity: none)."""


def ndcg(found: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Normalised discounted cumulative gain with linear gains, whatever ``rel``.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002, with the discount
    ``log2(1 + rank)`` of trec_eval's ``ndcg_cut``.
    """
    return _share(_dcg(found.relevant(1, cutoff)), _dcg(ideal.relevant(1, cutoff)))


def reciprocal_rank(found: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """One over the rank of the first relevant document.

    Kantor and Voorhees, "The TREC-5 Confusion Track", Information Retrieval 2000; trec_eval's ``recip_rank``.
    """
    relevant = found.relevant(rel, cutoff)
    values = np.zeros(len(found.lengths))
    np.maximum.at(values, relevant.query, 1 / relevant.rank)
    return values


def recall(found: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Share of all relevant documents that was found (trec_eval's ``recall``)."""
    return _share(found.relevant(rel, cutoff).total(), ideal.relevant(rel).total())


def precision(found: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Share of relevant documents in ``cutoff`` ranks, filled or not (trec_eval's ``P``)."""
    return found.relevant(rel, cutoff).total() / cutoff


def average_precision(found: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Mean, over all relevant documents, of the precision at each one's rank; 0 for those not found.

    Harman, "Evaluation issues in information retrieval", Information Processing & Management 1992;
    trec_eval's ``map`` and ``map_cut``.
    """
    relevant = found.relevant(rel, cutoff)
    before = np.searchsorted(relevant.query, relevant.query)  # relevant documents of earlier queries
    precisions = (np.arange(len(before)) - before + 1) / relevant.rank
    return _share(relevant.total(precisions), ideal.relevant(rel).total())


def success(found: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """1 where a relevant document was found, else 0 (trec_eval's ``success``)."""
    return np.sign(found.relevant(rel, cutoff).total())


def judged(found: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Share of judged documents, whatever their grade, among those found (ir_measures' ``Judged``)."""
    return _share(found.where(found.rank <= cutoff).total(), np.minimum(found.lengths, cutoff))


FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        "nDCG": ndcg,
        "RR": reciprocal_rank,
        "R": recall,
        "P": precision,
        "AP": average_precision,
        "Success": success,
        "Judged": judged,
    }
)
"""ir_measures' name → formula."""


def _dcg(graded: Graded) -> Values:
    # The C library's logarithm, as trec_eval: numpy's differs in the last bit between processors.
    discounts = np.array([math.log2(1 + rank) for rank in range(1, 1 + graded.rank.max(initial=0))])
    return graded.total(graded.grade / discounts[graded.rank - 1])


def _share(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
