"""The nouns: documents, queries, judgements and runs.

Shapes: Q queries, H hits in total, K hits of one query.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.object_]
"""An array of identifiers; its elements are ``str``."""

Qrels = Mapping[str, Mapping[str, int]]
"""Judgements: query_id → doc_id → relevance grade. A grade above zero is relevant."""


class Document(NamedTuple):
    """One document of a collection."""

    doc_id: str
    title: str
    text: str
    url: str = ""

    @property
    def contents(self) -> str:
        """What a system reads: the fields that are there joined by a space, as BEIR and RepLLaMA do."""
        return " ".join(field for field in (self.url, self.title, self.text) if field).strip()


class Query(NamedTuple):
    """One query of a test collection."""

    query_id: str
    text: str


def as_ids(values: Any) -> Ids:
    """Make an identifier array from any iterable of strings.

    Args:
        values: The identifiers, in order.

    Returns:
        A one-dimensional object array of ``str``.
    """
    items = list(values)
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What a retriever found, in no particular order: H rows of (query, document, score).

    Attributes:
        query_ids: (Q,) the queries that were searched, in the order of the run.
        doc_ids: (U,) the documents that occur, in any order; one may stand there twice.
        query: (H,) int, row of ``query_ids``.
        doc: (H,) int, row of ``doc_ids``.
        score: (H,) float32, larger is better.
    """

    query_ids: Ids
    doc_ids: Ids
    query: NDArray[np.int64]
    doc: NDArray[np.int64]
    score: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """An ordered, tie-free ranking of documents for each query; only the canonical ranking makes one.

    Attributes:
        query_ids: (Q,) query identifiers.
        offsets: (Q + 1,) the hits of query ``i`` are rows ``offsets[i]:offsets[i + 1]``, best first.
        doc_ids: (H,) document identifiers.
        scores: (H,) float32, strictly decreasing within a query.
        ties_next: (H,) bool, whether the retriever's own score equals that of the next-ranked
            document (looked at before the ranking was cut).
    """

    query_ids: Ids
    offsets: NDArray[np.int64]
    doc_ids: Ids
    scores: NDArray[np.float32]
    ties_next: NDArray[np.bool_]

    def __iter__(self) -> Iterator[tuple[str, Ids, NDArray[np.float32]]]:
        """Yield (query_id, (K,) doc_ids, (K,) scores) for each query."""
        for i, query_id in enumerate(self.query_ids):
            rows = slice(self.offsets[i], self.offsets[i + 1])
            yield query_id, self.doc_ids[rows], self.scores[rows]

    def ties_at(self, cutoff: int, among: Collection[str] | None = None) -> float:
        """Share of queries whose ranking has a tie straddling the cut-off.

        A tied pair at ranks ``cutoff`` and ``cutoff + 1`` means that the tie rule, not the system,
        decided which document is inside.

        Args:
            cutoff: A rank, counted from 1.
            among: The queries that count, in the run or not; None: those of the run.
        """
        counted = self.query_ids if among is None else among
        if not len(counted):
            return 0.0
        last_inside = self.offsets[:-1] + cutoff - 1
        tied = last_inside < self.offsets[1:]
        tied[tied] = self.ties_next[last_inside[tied]]
        return sum(among is None or query_id in among for query_id in self.query_ids[tied]) / len(counted)
