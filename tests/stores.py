"""Vector stores made of given vectors, and an encoder that costs nothing."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llara_eval.encoder import Work
from llara_eval.shards import Listing, Shard
from llara_eval.vectors import VectorStore


def store_vectors(
    root: Path, ids: Sequence[str], vectors: NDArray[np.float32], ends: Iterable[int], name: str = "made"
) -> VectorStore:
    """Return a complete store whose shards end at the given rows."""
    store = VectorStore(root, {"ends": (ends := list(ends)), "name": name}, name)
    with Listing.writer(store.folder, name) as add:
        for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            shard = Shard(f"{name}{number}", ids[begin:end], [])
            store.write(shard.content, vectors[begin:end], {})
            add(shard)
    return store


class CountingEncoder:
    """Gives each sequence a vector made of its ids, and remembers the sequences."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.sequences: list[list[int]] = []
        self.work = Work()
        self.stop_after = stop_after

    def encode_tokens(self, sequences, side, advance):
        if self.stop_after is not None and len(self.sequences) >= self.stop_after:
            raise KeyboardInterrupt
        self.sequences += [list(map(int, sequence)) for sequence in sequences]
        self.work.tokens += sum(map(len, sequences))
        self.work.padded += sum(map(len, sequences))
        advance(len(sequences))
        rows = [[len(sequence), sum(map(int, sequence)) % 97, 1.0] for sequence in sequences]
        return np.array(rows, dtype=np.float32)
