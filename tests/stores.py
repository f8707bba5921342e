"""Vectors in memory, in shards, as a store gives them; and what an exact search must find in them."""

from itertools import pairwise
from typing import Any

import numpy as np

from llara_eval.types import Hits, as_ids
from llara_eval.vectors import Shard


class Shards:
    """A store: vectors as float16, cut where ``cuts`` says (shares of the whole)."""

    def __init__(self, vectors: Any, cuts: tuple[float, ...] = (0.3, 0.7), letter: str = "d") -> None:
        self.vectors = np.asarray(vectors, dtype=np.float16)
        self.vectors.setflags(write=False)
        self.ids = as_ids(f"{letter}{row:05d}" for row in range(len(vectors)))
        self.bounds = [0, *(int(cut * len(vectors)) for cut in cuts), len(vectors)]
        self.manifest = [{"rows": end - start} for start, end in pairwise(self.bounds)]

    def __iter__(self):
        for start, end in pairwise(self.bounds):
            yield Shard(self.ids[start:end], self.vectors[start:end])


def unit(rows: int, width: int, seed: int = 0) -> Any:
    """Return random unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((rows, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def as_lists(hits: Hits) -> dict[str, list[tuple[str, float]]]:
    """Return query → (document, score) in canonical order."""
    out: dict[str, list[tuple[str, float]]] = {query_id: [] for query_id in hits.query_ids}
    for query, doc, score in zip(hits.query, hits.doc, hits.score.tolist(), strict=True):
        out[hits.query_ids[query]].append((hits.doc_ids[doc], score))
    return {query_id: sorted(found, key=_canonical, reverse=True) for query_id, found in out.items()}


def sorted_exactly(queries: Shards, documents: Shards, depth: int) -> dict[str, list[tuple[str, float]]]:
    """Return what :func:`as_lists` must give: all scores in float64, rounded once, sorted."""
    scores = queries.vectors.astype(np.float64) @ documents.vectors.astype(np.float64).T
    rounded = scores.astype(np.float32).tolist()
    return {
        query_id: sorted(zip(documents.ids, row, strict=True), key=_canonical, reverse=True)[:depth]
        for query_id, row in zip(queries.ids, rounded, strict=True)
    }


def _canonical(found: tuple[str, float]) -> tuple[float, str]:
    return found[1], found[0]
