"""The nouns of retrieval: documents, queries, judgements, hits and runs.

Shapes: Q queries, H hits in total, K hits of one query, U documents.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.object_]
"""An array of identifiers; its elements are ``str``."""

Qrels = Mapping[str, Mapping[str, int]]
"""Judgements: query_id → doc_id → relevance grade. A document with a grade above zero is relevant."""


class Document(NamedTuple):
    """One document of a collection."""

    doc_id: str
    title: str
    text: str
    url: str = ""

    @property
    def contents(self) -> str:
        """The text that a system reads: the fields that are not empty, joined by a space, as in RepLLaMA."""
        return " ".join(field for field in (self.url, self.title, self.text) if field).strip()


class Query(NamedTuple):
    """One query of a test collection."""

    query_id: str
    text: str


def as_ids(values: Iterable[str]) -> Ids:
    """Return identifiers, in order, as a one-dimensional object array of ``str``."""
    identifiers = list(values)
    ids = np.empty(len(identifiers), dtype=object)
    ids[:] = identifiers
    return ids


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The documents that a retriever returned, in no particular order: H rows of (query, document, score).

    Attributes:
        query_ids: (Q,) the queries that were searched, in the order of the run.
        doc_ids: (U,) the documents that occur, in any order, perhaps repeatedly.
        query: (H,) indices into ``query_ids``.
        doc: (H,) indices into ``doc_ids``.
        score: (H,) float32; larger is better.
        untouched: (H,) float32, the scores that the system computed, if it then changed them to put tied
            documents into an order of its own; equal ones are ties, NaN is unknown. None: ``score``.
    """

    query_ids: Ids
    doc_ids: Ids
    query: NDArray[np.int64]
    doc: NDArray[np.int64]
    score: NDArray[np.float32]
    untouched: NDArray[np.float32] | None = None

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[str, str, float]], query_ids: Iterable[str] = ()) -> "Hits":
        """Make hits from rows of (query_id, doc_id, score).

        Args:
            rows: The rows; a score too large for float32 becomes infinite, which a ranking refuses.
            query_ids: Queries that come first in the order of the run; they may have no row.
        """
        query_index = {query_id: index for index, query_id in enumerate(dict.fromkeys(query_ids))}
        doc_index: dict[str, int] = {}
        query, doc, score = array("q"), array("q"), array("d")
        for query_id, doc_id, value in rows:
            query.append(query_index.setdefault(query_id, len(query_index)))
            doc.append(doc_index.setdefault(doc_id, len(doc_index)))
            score.append(value)
        with np.errstate(over="ignore"):
            scores = np.array(score, dtype=np.float32)
        return cls(
            as_ids(query_index), as_ids(doc_index), np.array(query, np.int64), np.array(doc, np.int64), scores
        )


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """An ordered ranking without ties for each query; only the canonical ranking makes runs.

    Attributes:
        query_ids: (Q,) query identifiers.
        offsets: (Q + 1,) the hits of query ``i`` are ``offsets[i]:offsets[i + 1]``, best first.
        doc_ids: (H,) document identifiers.
        scores: (H,) float32, strictly decreasing within a query.
        ties_next: (H,) bool, whether the retriever computed the same score for a document and for the next
            one, which may lie behind the cut.
    """

    query_ids: Ids
    offsets: NDArray[np.int64]
    doc_ids: Ids
    scores: NDArray[np.float32]
    ties_next: NDArray[np.bool_]

    def __iter__(self) -> Iterator[tuple[str, Ids, NDArray[np.float32]]]:
        """Yield (query_id, (K,) doc_ids, (K,) scores) for each query."""
        for i, query_id in enumerate(self.query_ids):
            hits = slice(self.offsets[i], self.offsets[i + 1])
            yield query_id, self.doc_ids[hits], self.scores[hits]

    def ties_at(self, cutoff: int, among: Collection[str] | None = None) -> float:
        """Return the share of queries with a tie across a cut-off.

        If the documents at ranks ``cutoff`` and ``cutoff + 1`` have equal scores, the tie rule and not the
        system decided which of them is inside the cut-off.

        Args:
            cutoff: A rank, counted from 1.
            among: The queries that count, whether the run has them or not; None: the queries of the run.
        """
        counted = self.query_ids if among is None else among
        if not len(counted):
            return 0.0
        last_inside = self.offsets[:-1] + cutoff - 1
        tied = last_inside < self.offsets[1:]
        tied[tied] = self.ties_next[last_inside[tied]]
        return sum(among is None or query_id in among for query_id in self.query_ids[tied]) / len(counted)
