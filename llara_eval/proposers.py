"""Backends of the search: which documents of a block may belong to the best of a query.

Shapes: Q queries, n documents of a block, D width, P candidates.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from llara_eval.errors import MissingPartError, UsageError

Scored = tuple[NDArray[np.int64], NDArray[np.float32]]


class Proposer(Protocol):
    """Finds the documents of a block that reach the floors of the queries.

    Args:
        queries: (Q, D) float32.
        depth: Documents wanted for each query.
        size: The most documents of a block.
    """

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None: ...

    def take(self, block: torch.Tensor) -> None:
        """Take the next block, (n, D) float32."""

    def reaching(self, floor: NDArray[np.float32], some: slice) -> Scored:
        """Return which documents of a part of the block reach the floor, (Q,).

        Returns:
            (P,) places in the scores (Q, documents of the part), query after query, and (P,) scores.
        """


class TorchProposer:
    """One matrix product, on the device there is, into memory that is used again."""

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None:
        self._queries = queries.to(device())
        self._memory = torch.empty(len(queries) * size, device=device())
        self._scores = self._memory

    def take(self, block: torch.Tensor) -> None:
        """Multiply."""
        shape = len(self._queries), len(block)
        self._scores = self._memory[: shape[0] * shape[1]].view(shape)
        torch.mm(self._queries, block.T, out=self._scores)

    def reaching(self, floor: NDArray[np.float32], some: slice) -> Scored:
        """Compare; on a processor numpy compares, and finds what is true, several times as fast as torch."""
        scores = self._scores[:, some]
        if scores.is_cuda:
            reach = scores >= torch.from_numpy(floor).to(scores.device)[:, None]
            return reach.flatten().nonzero()[:, 0].cpu().numpy(), scores[reach].cpu().numpy()
        values = scores.numpy()
        places = np.flatnonzero(values >= floor[:, None])
        return places, values[np.divmod(places, values.shape[1])]


class FaissProposer:
    """The best by faiss; of all documents where more than the best reach the floor."""

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None:
        self._queries, self._depth = queries.numpy(), depth

    def take(self, block: torch.Tensor) -> None:
        """Keep the block."""
        self._block = block.cpu().numpy()

    def reaching(self, floor: NDArray[np.float32], some: slice) -> Scored:
        """Search the part, and if need be again for all its documents."""
        import faiss

        part = self._block[some]
        for count in (min(self._depth, len(part)), len(part)):
            scores, rows = faiss.knn(self._queries, part, count, metric=faiss.METRIC_INNER_PRODUCT)
            if (scores[:, -1] < floor).all():
                break
        reach = scores >= floor[:, None]
        return (rows + np.arange(len(rows))[:, None] * len(part))[reach], scores[reach]


BACKENDS: Mapping[str, type[Proposer]] = MappingProxyType({"torch": TorchProposer, "faiss": FaissProposer})
"""The ways to propose candidates."""


def backend_named(name: str) -> type[Proposer]:
    """Return a backend.

    Raises:
        UsageError: It is unknown.
        MissingPartError: It is not installed.
    """
    if name not in BACKENDS:
        raise UsageError(f"search backend {name!r} is not one of {', '.join(BACKENDS)}")
    if name == "faiss":
        try:
            import faiss  # noqa: F401
        except ImportError as error:
            raise MissingPartError("the faiss backend needs: pip install faiss-cpu") from error
    return BACKENDS[name]


def device() -> torch.device:
    """Return where blocks are multiplied."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply in float32 and nothing less, whatever the process allows elsewhere (TF32, bfloat16)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def rounding(width: int) -> float:
    """Return how far a float32 inner product of vectors of length 1 can be off, summed in any order.

    Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, section 3.1, with the inequality of
    Cauchy and Schwarz. Eight roundings more than the sum has are for the lengths, for the floor, and for
    scores that differ but are tied in float32.
    """
    unit = float(np.finfo(np.float32).eps) / 2
    return (width + 8) * unit / (1 - (width + 8) * unit)
