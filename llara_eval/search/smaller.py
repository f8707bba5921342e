"""Search smaller vectors, and score what they propose with the full ones.

The smaller vectors are written to a file of their own and mapped, so that what is reported is their size and
their time, and memory need not hold them. The file has no name: nothing is left to become stale.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.types import Hits
from llara_eval.search.exact import Index, Queries, Rows, as_hits, as_tensor, first, gather, score, stored
from llara_eval.search.quantise import Grid, Kind, bits, shorten, signs
from llara_eval.search.search import nearest
from llara_eval.vectors.vector_store import Vectors, VectorStore

RESCORED = 4
"""Documents scored with the full vectors for each that is wanted.

As many as in Shakir, Aarsen and Lee, "Binary and Scalar Embedding Quantization for Significantly Faster &
Cheaper Retrieval", Hugging Face, 2024.
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is searched.

    Attributes:
        vectors: Numbers as they are stored, a byte for each, or a bit.
        dims: Dimensions kept; None keeps all.
        unit: Whether vectors are unit vectors, also when they are shortened.
    """

    vectors: Kind = "fp16"
    dims: int | None = None
    unit: bool = True

    def row_bytes(self, width: int) -> int:
        """Return the bytes of one vector of ``width`` dimensions."""
        return {"fp16": 2 * width, "int8": width, "binary": -(-width // 8)}[self.vectors]


class Found(NamedTuple):
    """What a search gave and took.

    Attributes:
        hits: As :func:`llara_eval.search.search.search` returns them.
        phases: Seconds of ``quantise`` and ``search``, and the bytes searched, in all and of a document.
    """

    hits: Hits
    phases: dict[str, dict[str, float]]


def search_variant(
    queries: VectorStore,
    documents: VectorStore,
    depth: int,
    variant: Variant,
    *,
    scratch: Path,
    backend: str = "torch",
    progress: Progress = SILENT,
) -> Found:
    """Find the documents with the largest inner product among those that smaller vectors propose.

    Args:
        queries: A complete store of query vectors.
        documents: A complete store of document vectors.
        depth: Documents wanted for each query.
        variant: What is searched.
        scratch: The folder for the smaller vectors.
        backend: As for :func:`llara_eval.search.search.search`.
        progress: Where to show how far the work is.

    Raises:
        UsageError: The backend is unknown.
        MissingPartError: The backend is not installed.
        DataError: A vector is not finite.
    """
    asked, full = gather(queries), stored(documents)
    if variant.dims is not None:
        short = partial(shorten, dims=variant.dims, unit=variant.unit)
        asked = asked._replace(vectors=short(torch.from_numpy(asked.vectors)).numpy())
        full = replace(full, decode=lambda rows: short(as_tensor(rows)))
    started = time.perf_counter()
    with _smaller(variant, asked, full, scratch, progress) as (coded, small):
        ready = time.perf_counter()
        if variant.vectors == "fp16":
            pairs = nearest(coded, small, depth, backend, progress)
        else:
            near = nearest(coded, small, RESCORED * depth, backend, progress)
            pairs = score(asked.vectors, full, near.query, near.row)
            pairs = pairs.take(first(pairs, asked, full, depth))
        ended = time.perf_counter()
    row_bytes = variant.row_bytes(asked.vectors.shape[1])
    phases: dict[str, dict[str, float]] = {
        "search": {
            "seconds": round(ended - ready, 3),
            "queries": len(asked.ids),
            "bytes": row_bytes * full.size,
            "bytes_per_document": row_bytes,
        }
    }
    if small is not full:
        phases["quantise"] = {"seconds": round(ready - started, 3)}
    return Found(as_hits(pairs, asked, full), phases)


@contextmanager
def _smaller(
    variant: Variant, asked: Queries, full: Index, scratch: Path, progress: Progress
) -> Iterator[tuple[Queries, Index]]:
    """Yield queries and documents as they are searched; ``full`` itself where that is not smaller."""
    encode: Callable[[torch.Tensor], Rows] = torch.Tensor.numpy
    decode = as_tensor
    if variant.vectors == "fp16" and variant.dims is None:
        yield asked, full
        return
    if variant.vectors == "int8":
        grid = _grid(full)
        encode, asked = grid.codes, asked._replace(vectors=grid.query(torch.from_numpy(asked.vectors)))
    if variant.vectors == "binary":
        encode, decode = signs, partial(bits, width=asked.vectors.shape[1])
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file, progress.task("quantise", full.size) as advance:
        for shard in full.shards:
            codes = encode(full.decode(shard.vectors))
            file.write(codes.data)
            advance(len(codes))
        file.flush()
        mapped = np.memmap(file, codes.dtype, "r", shape=(full.size, codes.shape[1]))
        yield asked, Index(_Coded(full.shards, mapped), full.size, decode)


def _grid(full: Index) -> Grid:
    """Return the grid over all documents."""
    ends = [torch.aminmax(full.decode(shard.vectors), dim=0) for shard in full.shards]
    return Grid.between(
        torch.stack([low for low, _ in ends]).amin(0), torch.stack([high for _, high in ends]).amax(0)
    )


@dataclass(frozen=True, slots=True)
class _Coded:
    """Shards with codes in place of vectors."""

    shards: Iterable[Vectors]
    codes: Rows

    def __iter__(self) -> Iterator[Vectors]:
        start = 0
        for shard in self.shards:
            yield Vectors(shard.ids, self.codes[start : start + len(shard.ids)])
            start += len(shard.ids)
