"""Smaller vectors: fewer dimensions, a byte for each, or a bit.

Documents become codes; the query stays float and is multiplied with them, which loses less than to code both
(Dong, Charikar and Li, "Asymmetric Distance Estimation with Sketches for Similarity Search in
High-Dimensional Spaces", SIGIR 2008). A code depends on its own vector and, for bytes, on the least and
largest number of each dimension: order and shards play no part. Products of a query with codes are in the
order of the scores that the codes stand for, and as exact in float64 as those of vectors
(:mod:`llara_eval.search.exact`).

Shapes: n vectors, D width.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.core.errors import UsageError

Kind = Literal["fp16", "int8", "binary"]

_LEVELS = 127
"""Codes of a byte run from -127 to 127."""


def check_dims(dims: int | None, width: int) -> None:
    """Refuse to keep more dimensions than there are, or none.

    Raises:
        UsageError: There are not that many.
    """
    if dims is not None and not 1 <= dims <= width:
        raise UsageError(f"dims={dims}: the vectors have {width} dimensions; keep 1 to {width} of them")


def shorten(vectors: torch.Tensor, dims: int, *, unit: bool) -> torch.Tensor:
    """Keep the first dimensions, and make unit vectors unit vectors again.

    Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022.

    Args:
        vectors: (n, D).
        dims: Dimensions to keep.
        unit: Whether they are unit vectors.

    Returns:
        (n, dims) float16.
    """
    kept = vectors[:, :dims].double()
    if unit:
        kept /= torch.linalg.vector_norm(kept, dim=1, keepdim=True).clamp_min(torch.finfo(kept.dtype).tiny)
    return kept.half()


class Grid(NamedTuple):
    """How numbers become bytes: each dimension has a range of its own.

    In embeddings of language models a few dimensions are much larger than the others; one range for all of a
    vector would leave the others few codes.

    Attributes:
        middle: (D,) float32, the number with code 0.
        step: (D,) float16, from one code to the next: queries in such steps are exact in float32.
    """

    middle: torch.Tensor
    step: torch.Tensor

    @classmethod
    def between(cls, low: torch.Tensor, high: torch.Tensor) -> "Grid":
        """Make the grid over the numbers from ``low`` to ``high``, (D,) float16 both."""
        middle = (low.float() + high.float()) / 2
        step = ((high.float() - middle) / _LEVELS).half()
        return cls(middle, torch.nextafter(step, torch.full_like(step, torch.inf)))

    def codes(self, vectors: torch.Tensor) -> NDArray[np.int8]:
        """Return the codes of vectors, (n, D) both."""
        codes: NDArray[np.int8] = ((vectors.float() - self.middle) / self.step.float()).round().char().numpy()
        return codes

    def query(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        """Return what is multiplied with codes, (n, D): queries, in steps."""
        steps: NDArray[np.float32] = (vectors.float() * self.step.float()).numpy()
        return steps


def signs(vectors: torch.Tensor) -> NDArray[np.uint8]:
    """Return a bit for each number, eight to a byte: whether it is positive.

    Yamada, Asai and Hajishirzi, "Efficient Passage Retrieval with Hashing for Open-domain Question
    Answering", ACL 2021, whose reranking multiplies the query with such bits.

    Args:
        vectors: (n, D).

    Returns:
        (n, D / 8, rounded up).
    """
    return np.packbits((vectors > 0).numpy(), axis=1)


def bits(codes: NDArray[np.uint8], width: int) -> torch.Tensor:
    """Return what :func:`signs` packed as 0 and 1, (n, width).

    With -1 in place of 0 all scores of a query would be twice as large, less the sum of its numbers.
    """
    return torch.from_numpy(np.unpackbits(codes, axis=1, count=width))
