"""Vector stores of given vectors, an encoder that costs nothing, and the expected result of a search."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.types import Hits, as_ids
from llara_eval.encoding.encoder import Started
from llara_eval.search.compressed import Variant, search_variant
from llara_eval.vectors.shards import Listing, Shard, ShardEntry
from llara_eval.vectors.store_folder import StoreFolder
from llara_eval.vectors.vector_store import Vectors, VectorStore


def store_vectors(
    root: Path, ids: Sequence[str], vectors: NDArray[np.float32], ends: Iterable[int], name: str = "made"
) -> VectorStore:
    """Return a complete store whose shards end at the given rows."""
    store = VectorStore(StoreFolder(root), {"ends": (ends := list(ends)), "name": name}, name)
    with Listing.writer(store.folder, name) as add:
        for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            shard = Shard(f"{name}{number}", ids[begin:end], [])
            store.write(shard.content, vectors[begin:end], {})
            add(shard)
    return store


class CountingEncoder:
    """Makes a vector from the ids of each sequence, and records the sequences."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.sequences: list[list[int]] = []
        self.stop_after = stop_after

    def start(self, sequences, side, advance):
        if self.stop_after is not None and len(self.sequences) >= self.stop_after:
            raise KeyboardInterrupt
        self.sequences += [list(map(int, sequence)) for sequence in sequences]
        advance(len(sequences))
        rows = [[len(sequence), sum(map(int, sequence)) % 97, 1.0] for sequence in sequences]
        tokens = sum(map(len, sequences))
        return Started(lambda: np.array(rows, dtype=np.float32), tokens, tokens)


class Shards:
    """A store in memory: float16 vectors in shards that end at ``cuts`` (shares of all vectors)."""

    def __init__(self, vectors: Any, cuts: tuple[float, ...] = (0.3, 0.7), letter: str = "d") -> None:
        self.vectors = np.asarray(vectors, dtype=np.float16)
        self.vectors.setflags(write=False)
        self.ids = as_ids(f"{letter}{row:05d}" for row in range(len(vectors)))
        self.bounds = [0, *(int(cut * len(vectors)) for cut in cuts), len(vectors)]
        entries = [ShardEntry("", end - start, 0) for start, end in pairwise(self.bounds)]
        self.listing = SimpleNamespace(shards=entries)

    def __iter__(self):
        for start, end in pairwise(self.bounds):
            yield Vectors(self.ids[start:end], self.vectors[start:end])


def unit(rows: int, width: int, seed: int = 0) -> Any:
    """Return random unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((rows, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def as_lists(hits: Hits) -> dict[str, list[tuple[str, float]]]:
    """Return query → (document, score) in canonical order."""
    out: dict[str, list[tuple[str, float]]] = {query_id: [] for query_id in hits.query_ids}
    for query, doc, score in zip(hits.query, hits.doc, hits.score.tolist(), strict=True):
        out[hits.query_ids[query]].append((hits.doc_ids[doc], score))
    return {query_id: sorted(hits, key=_canonical, reverse=True) for query_id, hits in out.items()}


def search(queries: Any, documents: Any, depth: int, proposer: str = "torch") -> Hits:
    """Search stored vectors exactly; nothing is written."""
    return search_variant(
        queries, documents, depth, Variant(), scratch=Path("/nowhere"), proposer=proposer
    ).hits


def sorted_exactly(queries: Shards, documents: Shards, depth: int) -> dict[str, list[tuple[str, float]]]:
    """Return the expected output of :func:`as_lists`: all scores in float64, rounded once, sorted."""
    scores = queries.vectors.astype(np.float64) @ documents.vectors.astype(np.float64).T
    rounded = scores.astype(np.float32).tolist()
    return {
        query_id: sorted(zip(documents.ids, row, strict=True), key=_canonical, reverse=True)[:depth]
        for query_id, row in zip(queries.ids, rounded, strict=True)
    }


def _canonical(hit: tuple[str, float]) -> tuple[float, str]:
    return hit[1], hit[0]


def search_mapped(path: str) -> str:
    """Search a file of vectors, and return the SHA-256 of the result."""
    documents = Shards(np.load(path, mmap_mode="r"), cuts=(0.2, 0.4, 0.6, 0.8))
    hits = search(Shards(unit(64, 256, seed=1), letter="q"), documents, 100)
    order = np.lexsort((hits.doc, hits.query))
    parts = hits.query[order], hits.doc_ids[hits.doc[order]].astype(str), hits.score[order]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
