"""The usual measures, computed from the ranks and grades of judged documents alone.

No formula needs the documents without judgements, so a run is never turned into dictionaries. A document
whose grade is below the smallest relevant grade (``rel``, at least 1) is not relevant, and a negative grade
gains nothing. A quotient with a denominator of 0 is 0. Sums are added in the order of trec_eval, so that the
results agree with trec_eval in every bit.

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
    """The judged documents of Q rankings, sorted by query and then by rank.

    Attributes:
        lengths: (Q,) number of documents in each ranking, with and without judgements.
        query: (J,) index of the query, ascending.
        rank: (J,) rank in the query's ranking, from 1.
        grade: (J,) relevance grade.
    """

    lengths: NDArray[np.int64]
    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    grade: NDArray[np.int64] | NDArray[np.float64]

    def where(self, kept: NDArray[np.bool_]) -> "Graded":
        """Return the documents that a mask (J,) selects; they keep their ranks."""
        return Graded(self.lengths, self.query[kept], self.rank[kept], self.grade[kept])

    def relevant(self, rel: int, cutoff: float = math.inf) -> "Graded":
        """Return the documents with a grade of at least ``rel`` and a rank of at most ``cutoff``."""
        return self.where((self.grade >= rel) & (self.rank <= cutoff))

    def total(self, values: Values | None = None) -> Values:
        """Return the sum of values (J,) for each query (Q,), added in rank order; without values, a count."""
        return np.bincount(self.query, values, minlength=len(self.lengths)).astype(np.float64)


Formula = Callable[[Graded, Graded, float, int], Values]
"""(retrieved, ideal, cutoff, rel) → (Q,) values.

``retrieved`` are the judged documents of a run, ``ideal`` all judged documents, the best first; ``cutoff`` is
the last rank that counts (infinity: all ranks count), ``rel`` the smallest relevant grade.
"""


def ndcg(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Normalised discounted cumulative gain with linear gains; ``rel`` has no influence.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002, with the discount
    ``log2(1 + rank)`` of trec_eval's ``ndcg_cut``.
    """
    return _share(_dcg(retrieved.relevant(1, cutoff)), _dcg(ideal.relevant(1, cutoff)))


def exponential_ndcg(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Normalised discounted cumulative gain with gains 2^grade − 1; ``rel`` has no influence.

    Grades are below 1024, so that float64 holds their gains.

    Burges et al., "Learning to rank using gradient descent", ICML 2005, as in TREC's ``gdeval``.
    """
    retrieved_gains, ideal_gains = (
        Graded(graded.lengths, graded.query, graded.rank, np.ldexp(1.0, graded.grade.astype(np.int64)) - 1)
        for graded in (retrieved.relevant(1, cutoff), ideal.relevant(1, cutoff))
    )
    return _share(_dcg(retrieved_gains), _dcg(ideal_gains))


def reciprocal_rank(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """One over the rank of the first relevant document.

    Kantor and Voorhees, "The TREC-5 Confusion Track", Information Retrieval 2000; trec_eval's ``recip_rank``.
    """
    relevant = retrieved.relevant(rel, cutoff)
    values = np.zeros(len(retrieved.lengths))
    np.maximum.at(values, relevant.query, 1 / relevant.rank)
    return values


def recall(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Share of all relevant documents that the run has (trec_eval's ``recall``)."""
    return _share(retrieved.relevant(rel, cutoff).total(), ideal.relevant(rel).total())


def capped_recall(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Relevant documents that the run has, as a share of all, or of ``cutoff`` if there are more.

    Thakur et al., "BEIR", NeurIPS 2021, section 4; ``recall_cap`` of the ``beir`` package, which however ends
    with an error where a query has no relevant document.
    """
    return _share(retrieved.relevant(rel, cutoff).total(), np.minimum(ideal.relevant(rel).total(), cutoff))


def hole(annotated: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Share of ``cutoff`` ranks whose documents nobody judged, for any query (``hole`` of ``beir``).

    Args:
        annotated: The documents of the run that are judged for some query, which need not be this one.
        ideal: Without influence, as is ``rel``.
        cutoff: The last rank that counts; an empty rank is no hole.
        rel: Without influence.
    """
    judged_somewhere = annotated.where(annotated.rank <= cutoff).total()
    return (np.minimum(annotated.lengths, cutoff) - judged_somewhere) / cutoff


def precision(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Share of relevant documents among ``cutoff`` ranks; an empty rank counts, too (trec_eval's ``P``)."""
    return retrieved.relevant(rel, cutoff).total() / cutoff


def average_precision(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Mean over all relevant documents of the precision at their ranks, which is 0 for missing documents.

    Harman, "Evaluation issues in information retrieval", Information Processing & Management 1992;
    trec_eval's ``map`` and ``map_cut``.
    """
    relevant = retrieved.relevant(rel, cutoff)
    before = np.searchsorted(relevant.query, relevant.query)  # relevant documents of the queries before
    precisions = (np.arange(len(before)) - before + 1) / relevant.rank
    return _share(relevant.total(precisions), ideal.relevant(rel).total())


def success(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """1 if the run has a relevant document, otherwise 0 (trec_eval's ``success``)."""
    return np.sign(retrieved.relevant(rel, cutoff).total())


def judged(retrieved: Graded, ideal: Graded, cutoff: float, rel: int) -> Values:
    """Share of documents of the run that are judged, with any grade (ir_measures' ``Judged``)."""
    return _share(retrieved.where(retrieved.rank <= cutoff).total(), np.minimum(retrieved.lengths, cutoff))


FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        "nDCG": ndcg,
        "RR": reciprocal_rank,
        "R": recall,
        "R_cap": capped_recall,
        "P": precision,
        "AP": average_precision,
        "Success": success,
        "Judged": judged,
    }
)
"""Name of a measure in ir_measures or BEIR → formula; :func:`hole`, which reads other documents, is apart."""


def _dcg(graded: Graded) -> Values:
    # The C library's logarithm, as in trec_eval: numpy's differs in the last bit between processors.
    discounts = np.array([math.log2(1 + rank) for rank in range(1, 1 + graded.rank.max(initial=0))])
    return graded.total(graded.grade / discounts[graded.rank - 1])


def _share(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
