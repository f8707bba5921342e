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

from llara_eval.core.errors import MissingPartError, UsageError
from llara_eval.encoding.devices import default_device

Scored = tuple[NDArray[np.int64], NDArray[np.float32]]


class Proposer(Protocol):
    """Finds the documents of a block that reach the floors of the queries.

    Args:
        queries: (Q, D) float32.
        depth: Documents wanted for each query.
        size: The most documents of a block.
    """

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None: ...

    def __call__(self, block: torch.Tensor, floor: NDArray[np.float32]) -> Scored:
        """Return which of the documents (n, D) reach the floor, (Q,).

        Returns:
            (P,) places in the scores (Q, n), query after query, and (P,) scores.
        """


class TorchProposer:
    """One matrix product, on the device there is, into memory that is used again.

    On a processor numpy compares, and finds what is true, several times as fast as torch.
    """

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None:
        self._queries = queries.to(default_device())
        self._scores = torch.empty(len(queries) * size, device=self._queries.device)
        self._reach = np.empty(0 if self._scores.is_cuda else len(self._scores), dtype=np.bool_)

    def __call__(self, block: torch.Tensor, floor: NDArray[np.float32]) -> Scored:
        """Multiply and compare."""
        shape = len(self._queries), len(block)
        count = shape[0] * shape[1]
        scores = self._scores[:count]
        torch.mm(self._queries, block.T, out=scores.view(shape))
        if block.is_cuda:
            least = torch.from_numpy(floor).to(block.device)
            found = (scores.view(shape) >= least[:, None]).flatten().nonzero()[:, 0]
            return found.cpu().numpy(), scores[found].cpu().numpy()
        values, reach = scores.numpy(), self._reach[:count]
        np.greater_equal(values.reshape(shape), floor[:, None], out=reach.reshape(shape))
        places = np.flatnonzero(reach)
        return places, values[places]


class FaissProposer:
    """The best by faiss; of all documents where more than the best reach the floor."""

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None:
        self._queries, self._depth = queries.numpy(), depth

    def __call__(self, block: torch.Tensor, floor: NDArray[np.float32]) -> Scored:
        """Search, and if need be again for all documents."""
        import faiss

        documents = block.cpu().numpy()
        for count in (min(self._depth, len(block)), len(block)):
            scores, rows = faiss.knn(self._queries, documents, count, metric=faiss.METRIC_INNER_PRODUCT)
            if (scores[:, -1] < floor).all():
                break
        reach = scores >= floor[:, None]
        return (rows + np.arange(len(rows))[:, None] * len(block))[reach], scores[reach]


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
