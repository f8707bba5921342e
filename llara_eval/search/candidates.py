"""Candidates: documents of a block that may be among the best of a query.

A proposer multiplies a block with the queries in float32 and returns the documents whose scores reach a
floor. A reservoir keeps these candidates until better documents displace them.

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
"""(P,) positions in the flattened scores (Q, n) of a block, ascending, and (P,) scores."""


class Proposer(Protocol):
    """Finds the documents of a block whose scores reach the floors of the queries (Q, D), float32.

    A search is for ``depth`` documents for each query, in blocks of at most ``size`` documents.
    """

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None: ...

    def __call__(self, block: torch.Tensor, floor: NDArray[np.float32]) -> Scored:
        """Return the documents of a block (n, D) whose scores reach the floors (Q,)."""


class TorchProposer:
    """Computes one matrix product on the default device, in memory that all blocks share.

    On a CPU, numpy compares scores with the floor several times as fast as torch.
    """

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None:
        self._queries = queries.to(default_device())
        self._scores = torch.empty(len(queries) * size, device=self._queries.device)
        self._reaches = np.empty(0 if self._scores.is_cuda else len(self._scores), dtype=np.bool_)

    def __call__(self, block: torch.Tensor, floor: NDArray[np.float32]) -> Scored:
        """Multiply the block with the queries, and compare the scores with the floors."""
        shape = len(self._queries), len(block)
        count = shape[0] * shape[1]
        scores = self._scores[:count]
        torch.mm(self._queries, block.T, out=scores.view(shape))
        if block.is_cuda:
            floor_on_device = torch.from_numpy(floor).to(block.device)
            on_device = (scores.view(shape) >= floor_on_device[:, None]).flatten().nonzero()[:, 0]
            return on_device.cpu().numpy(), scores[on_device].cpu().numpy()
        values, reaches = scores.numpy(), self._reaches[:count]
        np.greater_equal(values.reshape(shape), floor[:, None], out=reaches.reshape(shape))
        positions = np.flatnonzero(reaches)
        return positions, values[positions]


class FaissProposer:
    """Runs the flat search of faiss, which returns a fixed number of documents for each query."""

    def __init__(self, queries: torch.Tensor, depth: int, size: int) -> None:
        self._queries, self._depth = queries.numpy(), depth

    def __call__(self, block: torch.Tensor, floor: NDArray[np.float32]) -> Scored:
        """Search for the best documents, and again for all if more than these may reach a floor."""
        import faiss

        documents = block.cpu().numpy()
        for count in (min(self._depth, len(block)), len(block)):
            scores, rows = faiss.knn(self._queries, documents, count, metric=faiss.METRIC_INNER_PRODUCT)
            if (scores[:, -1] < floor).all():
                break
        reaches = scores >= floor[:, None]
        return (rows + np.arange(len(rows))[:, None] * len(block))[reaches], scores[reaches]


PROPOSERS: Mapping[str, type[Proposer]] = MappingProxyType({"torch": TorchProposer, "faiss": FaissProposer})
"""Name → proposer."""


def proposer_named(name: str) -> type[Proposer]:
    """Return the proposer with a name.

    Raises:
        UsageError: No proposer has that name.
        MissingPartError: The proposer's library is not installed.
    """
    if name not in PROPOSERS:
        raise UsageError(f"search={name}: no such proposer; choose one of {', '.join(PROPOSERS)}")
    if name == "faiss":
        try:
            import faiss  # noqa: F401
        except ImportError as error:
            raise MissingPartError("search=faiss needs: pip install faiss-cpu") from error
    return PROPOSERS[name]


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply in full float32 in the block, even if the process allows TF32 or bfloat16 elsewhere."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def rounding(width: int) -> float:
    """Return a bound on the error of a float32 inner product of two unit vectors, summed in any order.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, section 3.1, with the
    inequality of Cauchy and Schwarz. The bound allows eight roundings more than the sum has: those of the
    lengths, of the floor, and of scores that differ but are tied in float32.
    """
    unit = float(np.finfo(np.float32).eps) / 2
    return (width + 8) * unit / (1 - (width + 8) * unit)


_LOWEST = np.finfo(np.float32).min
"""Every score is at least this large; a free slot holds less."""


class Reservoir:
    """The best documents of Q queries so far, unordered, and compared only if room is needed.

    Candidates are appended. When the room might not suffice for another block, the depth-th best score of
    each query is determined, and candidates further below than rounding can explain are dropped. faiss does
    the same query by query (``ReservoirTopN``); this class treats all queries at once. A query gets at most
    ``block`` candidates from one block.

    Attributes:
        slack: (Q,) how far a candidate may lie below the depth-th best score and still be among the best.
    """

    def __init__(self, queries: int, depth: int, block: int) -> None:
        self.slack = np.zeros(queries)
        self._depth, self._block = depth, block
        self._room = depth + block + max(depth, block)
        self._scores = np.full((queries, self._room), -np.inf, dtype=np.float32)
        self._rows = np.zeros((queries, self._room), dtype=np.int64)
        self._filled = np.zeros(queries, dtype=np.int64)
        self._last = np.full(queries, -np.inf)  # the depth-th best score so far

    @property
    def floor(self) -> NDArray[np.float32]:
        """The scores (Q,) that candidates must reach."""
        return np.maximum(self._last - self.slack, _LOWEST).astype(np.float32)

    @property
    def crowded(self) -> NDArray[np.bool_]:
        """The mask (Q,) of queries without room for another block."""
        return self._filled > self._room - self._block

    def add(self, positions: NDArray[np.int64], scores: NDArray[np.float32], first: int, width: int) -> None:
        """Append candidates of a block of ``width`` documents, whose first document is in row ``first``.

        ``positions`` (P,), ascending, are positions in the flattened scores (Q, width) of the block.
        """
        queries = np.arange(len(self._filled))
        starts = np.searchsorted(positions, np.arange(len(self._filled) + 1) * width)
        slots, counts = self._free(starts)
        self._scores.ravel()[slots] = scores
        self._rows.ravel()[slots] = positions + np.repeat(first - queries * width, counts)

    def compress(self) -> None:
        """Drop the candidates that cannot be among the best."""
        last = self._room - self._depth
        self._last = np.maximum(self._last, np.partition(self._scores, last, axis=1)[:, last])
        self._move(np.flatnonzero(self._scores >= self.floor[:, None]))

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the candidates: (P,) rows of queries, ascending, and (P,) rows of documents."""
        slots = self._taken()
        return slots // self._room, self._rows.ravel()[slots]

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Keep the :meth:`pairs` that a mask (P,) selects, which include the ``depth`` best of each query."""
        self._move(self._taken()[chosen])

    def _taken(self) -> NDArray[np.int64]:
        """Return the slots that hold a candidate, ascending."""
        return np.flatnonzero(self._scores >= _LOWEST)

    def _move(self, kept: NDArray[np.int64]) -> None:
        """Move the candidates of the slots ``kept`` to the front, and free all other slots."""
        scores, rows = self._scores.ravel()[kept], self._rows.ravel()[kept]
        self._scores.fill(-np.inf)
        self._filled[:] = 0
        slots, _ = self._free(np.searchsorted(kept, np.arange(len(self._filled) + 1) * self._room))
        self._scores.ravel()[slots], self._rows.ravel()[slots] = scores, rows

    def _free(self, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take free slots for the candidates ``starts[i]:starts[i + 1]`` of each query i.

        The result is the slots (P,) and the number of slots of each query (Q,).
        """
        counts = np.diff(starts)
        shift = np.arange(len(counts)) * self._room + self._filled - starts[:-1]
        self._filled += counts
        return np.arange(starts[-1]) + np.repeat(shift, counts), counts
