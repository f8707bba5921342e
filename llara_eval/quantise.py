"""Smaller vectors: fewer dimensions, a byte or a bit for each.

Documents become codes; a query stays float and is multiplied with them, which loses less than coding both
(Dong, Charikar and Li, "Asymmetric Distance Estimation with Sketches for Similarity Search in
High-Dimensional Spaces", SIGIR 2008). A score is that of the documents as the codes have them, less what is
the same for all documents of a query. No code depends on other documents than through the least and the
largest value of each dimension, so that order and shards play no part.

Shapes: n vectors, D width.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.errors import UsageError

Kind = Literal["fp16", "int8", "binary"]
Vectors = NDArray[np.float16]

_LEVELS = 127
"""Codes of a byte run from -127 to 127."""


def check_dims(dims: int | None, width: int) -> None:
    """Refuse to keep none or more dimensions than there are.

    Raises:
        UsageError: There are not that many.
    """
    if dims is not None and not 1 <= dims <= width:
        raise UsageError(f"dims={dims}: the vectors have {width} dimensions; keep 1 to {width} of them")


def shorten(vectors: Vectors, dims: int, *, unit: bool) -> Vectors:
    """Keep the first dimensions, and make the vectors unit vectors again if they were.

    Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022.

    Args:
        vectors: (n, D).
        dims: Dimensions to keep.
        unit: Whether the vectors are unit vectors.

    Returns:
        (n, dims).
    """
    kept = vectors[:, :dims].astype(np.float64)
    if unit:
        lengths = np.sqrt(np.einsum("nd,nd->n", kept, kept))
        kept /= np.where(lengths == 0, 1, lengths)[:, None]
    return kept.astype(np.float16)


class Grid(NamedTuple):
    """How values become bytes: each dimension has its own range, as embeddings of language models need.

    Attributes:
        middle: (D,) float32, the value with code 0.
        step: (D,) float16 from one code to the next; so short that its products with a query are exact.
    """

    middle: NDArray[np.float32]
    step: NDArray[np.float16]

    @classmethod
    def over(cls, low: Vectors, high: Vectors) -> "Grid":
        """Make the grid between the least and the largest values of each dimension, (D,) each."""
        middle = (low.astype(np.float32) + high) / 2
        step = ((high - middle) / _LEVELS).astype(np.float16)
        return cls(middle, np.nextafter(step, np.float16(np.inf)))

    def codes(self, vectors: Vectors) -> NDArray[np.int8]:
        """Return the codes of vectors, (n, D) both."""
        return np.rint((vectors - self.middle) / self.step.astype(np.float32)).astype(np.int8)

    def query(self, vectors: Vectors) -> NDArray[np.float32]:
        """Return what is multiplied with codes: queries in steps, (n, D) both."""
        return vectors.astype(np.float32) * self.step


def signs(vectors: Vectors) -> NDArray[np.uint8]:
    """Return one bit a dimension, eight to a byte: whether a value is positive.

    Yamada, Asai and Hajishirzi, "Efficient Passage Retrieval with Hashing for Open-domain Question
    Answering", ACL 2021; their second stage multiplies the query with the bits as we do.

    Args:
        vectors: (n, D).

    Returns:
        (n, D / 8), rounded up.
    """
    return np.packbits(vectors > 0, axis=1)


def bits(codes: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """Return what :func:`signs` packed as 0 and 1, (n, width).

    With -1 instead of 0 a score is twice as large, less the sum of the query: the order is the same.
    """
    return np.unpackbits(codes, axis=1, count=width)
