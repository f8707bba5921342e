"""Compressed vectors: fewer dimensions, bytes, or bits; documents that they propose are scored in full.

Documents become codes. The query stays float and is multiplied with the codes, which loses less than coding
both (Dong, Charikar and Li, "Asymmetric Distance Estimation with Sketches for Similarity Search in
High-Dimensional Spaces", SIGIR 2008). A code depends on its vector and, for bytes, on the smallest and
largest number of each dimension, but not on the order or the shards of the documents. Products of a query
with codes are as exact in float64 as those of vectors (:mod:`llara_eval.search.search`).

The codes are written to a file and mapped into memory, so that the reported size and time are those of the
codes, and the codes may be larger than memory. The file has no name, so no stale file can stay behind.

Shapes: n vectors, D width.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.core.errors import UsageError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.types import Hits
from llara_eval.search.search import (
    Index,
    Queries,
    Rows,
    as_hits,
    as_tensor,
    first,
    index_of,
    nearest,
    read_queries,
    score,
)
from llara_eval.vectors.vector_store import Vectors, VectorStore

VectorFormat = Literal["fp16", "int8", "binary"]

RESCORED = 4
"""Documents that are scored with their full vectors, for each document of the result.

Source: Shakir, Aarsen and Lee, "Binary and Scalar Embedding Quantization for Significantly Faster & Cheaper
Retrieval", Hugging Face, 2024.
"""

_LEVELS = 127
"""The codes of one byte are the integers from -127 to 127."""


def check_dims(dims: int | None, width: int) -> None:
    """Check the number of dimensions to keep of vectors with ``width`` dimensions; None keeps all.

    Raises:
        UsageError: ``dims`` is not between 1 and ``width``.
    """
    if dims is not None and not 1 <= dims <= width:
        raise UsageError(f"dims={dims}: the vectors have {width} dimensions; keep 1 to {width} of them")


def shorten(vectors: torch.Tensor, dims: int, *, unit: bool) -> torch.Tensor:
    """Keep the first ``dims`` dimensions of vectors (n, D) as float16, and scale unit vectors to length 1.

    Source: Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022.
    """
    kept = vectors[:, :dims].double()
    if unit:
        kept /= torch.linalg.vector_norm(kept, dim=1, keepdim=True).clamp_min(torch.finfo(kept.dtype).tiny)
    return kept.half()


class Grid(NamedTuple):
    """The byte codes of numbers; each dimension has its own range.

    In embeddings of language models a few dimensions are much larger than the others. One range for all
    dimensions would leave few codes for the others.

    Attributes:
        middle: (D,) float32, the number with code 0.
        step: (D,) float16, the distance of two codes; its products with float16 numbers are exact in float32.
    """

    middle: torch.Tensor
    step: torch.Tensor

    @classmethod
    def between(cls, low: torch.Tensor, high: torch.Tensor) -> "Grid":
        """Return the grid for numbers from ``low`` to ``high``, both (D,) float16."""
        middle = (low.float() + high.float()) / 2
        step = ((high.float() - middle) / _LEVELS).half()
        return cls(middle, torch.nextafter(step, torch.full_like(step, torch.inf)))

    def codes(self, vectors: torch.Tensor) -> NDArray[np.int8]:
        """Return the codes (n, D) of vectors (n, D)."""
        codes: NDArray[np.int8] = ((vectors.float() - self.middle) / self.step.float()).round().char().numpy()
        return codes

    def query(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        """Return queries (n, D) in the form that is multiplied with codes."""
        scaled: NDArray[np.float32] = (vectors.float() * self.step.float()).numpy()
        return scaled


def signs(vectors: torch.Tensor) -> NDArray[np.uint8]:
    """Return bits of vectors (n, D), 1 for positive numbers, as bytes (n, D / 8, rounded up).

    Source: Yamada, Asai and Hajishirzi, "Efficient Passage Retrieval with Hashing for Open-domain Question
    Answering", ACL 2021; its reranking multiplies the query with such bits.
    """
    return np.packbits((vectors > 0).numpy(), axis=1)


def bits(codes: NDArray[np.uint8], width: int) -> torch.Tensor:
    """Return the bits that :func:`signs` packed, as 0 and 1, (n, width).

    With -1 instead of 0, a score would be twice as large minus the sum of the query's numbers, so that the
    order of the documents would be the same.
    """
    return torch.from_numpy(np.unpackbits(codes, axis=1, count=width))


@dataclass(frozen=True, slots=True)
class Variant:
    """The form in which document vectors are searched.

    Attributes:
        vectors: The form of each number: as stored (``fp16``), a byte (``int8``) or a bit (``binary``).
        dims: The number of dimensions kept; None keeps all.
        unit: Whether vectors have length 1, and are scaled to it when they are shortened.
    """

    vectors: VectorFormat = "fp16"
    dims: int | None = None
    unit: bool = True

    def row_bytes(self, width: int) -> int:
        """Return the size in bytes of a vector of ``width`` dimensions."""
        return {"fp16": 2 * width, "int8": width, "binary": -(-width // 8)}[self.vectors]


class SearchOutcome(NamedTuple):
    """The hits of a search, and its cost.

    Attributes:
        hits: The first ``depth`` documents of each query in the canonical order; unordered.
        phases: The seconds of ``quantise`` and ``search``, and the bytes searched, in total and per document.
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
    proposer: str = "torch",
    progress: Progress = SILENT,
) -> SearchOutcome:
    """Find the documents with the largest inner products, among those that compressed vectors propose.

    Both stores are complete. Compressed vectors are written to the folder ``scratch``. The proposers
    ``torch`` and ``faiss`` give the same hits.

    Raises:
        UsageError: No proposer has that name.
        MissingPartError: The proposer's library is not installed.
        DataError: A vector is not finite.
    """
    query_vectors, full = read_queries(queries), index_of(documents)
    if variant.dims is not None:
        short = partial(shorten, dims=variant.dims, unit=variant.unit)
        shortened = short(torch.from_numpy(query_vectors.vectors)).numpy()
        query_vectors = query_vectors._replace(vectors=shortened)
        full = replace(full, decode=lambda rows: short(as_tensor(rows)))
    started = time.perf_counter()
    with _compressed(variant, query_vectors, full, scratch, progress) as (scaled_queries, compressed):
        quantised = time.perf_counter()
        if variant.vectors == "fp16":
            pairs = nearest(scaled_queries, compressed, depth, proposer, progress)
        else:
            proposed = nearest(scaled_queries, compressed, RESCORED * depth, proposer, progress)
            pairs = score(query_vectors.vectors, full, proposed.query, proposed.row)
            pairs = pairs.take(first(pairs, query_vectors, full, depth))
        ended = time.perf_counter()
    row_bytes = variant.row_bytes(query_vectors.vectors.shape[1])
    phases: dict[str, dict[str, float]] = {
        "search": {
            "seconds": round(ended - quantised, 3),
            "queries": len(query_vectors.ids),
            "bytes": row_bytes * full.size,
            "bytes_per_document": row_bytes,
        }
    }
    if compressed is not full:
        phases["quantise"] = {"seconds": round(quantised - started, 3)}
    return SearchOutcome(as_hits(pairs, query_vectors, full), phases)


@contextmanager
def _compressed(
    variant: Variant, queries: Queries, full: Index, scratch: Path, progress: Progress
) -> Iterator[tuple[Queries, Index]]:
    """Yield the queries and documents to search; these are ``queries`` and ``full`` without compression."""
    encode: Callable[[torch.Tensor], Rows] = torch.Tensor.numpy
    decode = as_tensor
    if variant.vectors == "fp16" and variant.dims is None:
        yield queries, full
        return
    if variant.vectors == "int8":
        grid = _grid(full)
        encode = grid.codes
        queries = queries._replace(vectors=grid.query(torch.from_numpy(queries.vectors)))
    if variant.vectors == "binary":
        encode, decode = signs, partial(bits, width=queries.vectors.shape[1])
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file, progress.task("quantise", full.size) as advance:
        for shard in full.shards:
            codes = encode(full.decode(shard.vectors))
            file.write(codes.data)
            advance(len(codes))
        file.flush()
        mapped = np.memmap(file, codes.dtype, "r", shape=(full.size, codes.shape[1]))
        yield queries, Index(_Coded(full.shards, mapped), full.size, decode)


def _grid(full: Index) -> Grid:
    """Return the grid over all documents."""
    ends = [torch.aminmax(full.decode(shard.vectors), dim=0) for shard in full.shards]
    return Grid.between(
        torch.stack([low for low, _ in ends]).amin(0), torch.stack([high for _, high in ends]).amax(0)
    )


@dataclass(frozen=True, slots=True)
class _Coded:
    """Shards with codes instead of vectors."""

    shards: Iterable[Vectors]
    codes: Rows

    def __iter__(self) -> Iterator[Vectors]:
        start = 0
        for shard in self.shards:
            yield Vectors(shard.ids, self.codes[start : start + len(shard.ids)])
            start += len(shard.ids)
