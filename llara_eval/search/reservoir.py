"""The best documents of many queries so far: appended unordered, weighed when room is needed.

A document that reaches the floor of its query is appended. When another block might not find room, the
depth-th best score is found, and what lies further below it than rounding can explain is dropped. faiss does
so query by query (``ReservoirTopN``); here all queries do at once.

Shapes: Q queries, P candidates.
"""

import numpy as np
from numpy.typing import NDArray

_LOWEST = np.finfo(np.float32).min
"""What every score reaches; places that are free hold less."""


class Reservoir:
    """The candidates of Q queries.

    Args:
        queries: Q.
        depth: Documents wanted for each query.
        block: The most candidates that a query gets at a time.

    Attributes:
        slack: (Q,) how far below the depth-th best a score may be and still belong to the best.
    """

    def __init__(self, queries: int, depth: int, block: int) -> None:
        self.slack = np.zeros(queries)
        self._depth, self._block = depth, block
        self._room = depth + block + max(depth, block)
        self._scores = np.full((queries, self._room), -np.inf, dtype=np.float32)
        self._rows = np.zeros((queries, self._room), dtype=np.int64)
        self._filled = np.zeros(queries, dtype=np.int64)
        self._last = np.full(queries, -np.inf)  # the depth-th best, as far as known

    @property
    def floor(self) -> NDArray[np.float32]:
        """What scores must reach, (Q,)."""
        return np.maximum(self._last - self.slack, _LOWEST).astype(np.float32)

    @property
    def crowded(self) -> NDArray[np.bool_]:
        """Which queries (Q,) have no room for another block."""
        return self._filled > self._room - self._block

    def add(self, places: NDArray[np.int64], scores: NDArray[np.float32], first: int, width: int) -> None:
        """Append candidates of a block.

        Args:
            places: (P,) places in the (Q, width) scores of the block, query after query.
            scores: (P,) their scores.
            first: The row of the block's first document.
            width: Documents of the block.
        """
        queries = np.arange(len(self._filled))
        starts = np.searchsorted(places, np.arange(len(self._filled) + 1) * width)
        slots, counts = self._free(starts)
        self._scores.ravel()[slots] = scores
        self._rows.ravel()[slots] = places + np.repeat(first - queries * width, counts)

    def compress(self) -> None:
        """Drop what cannot belong to the best."""
        last = self._room - self._depth
        self._last = np.maximum(self._last, np.partition(self._scores, last, axis=1)[:, last])
        self._move(np.flatnonzero(self._scores >= self.floor[:, None]))

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the candidates: (P,) rows of queries, ascending, and (P,) rows of documents."""
        places = self._taken()
        return places // self._room, self._rows.ravel()[places]

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Keep only some of :meth:`pairs`, at least the depth-th best of each query."""
        self._move(self._taken()[chosen])

    def _taken(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._scores >= _LOWEST)

    def _move(self, places: NDArray[np.int64]) -> None:
        """Move the candidates at some places to the front, and free all others."""
        scores, rows = self._scores.ravel()[places], self._rows.ravel()[places]
        self._scores.fill(-np.inf)
        self._filled[:] = 0
        slots, _ = self._free(np.searchsorted(places, np.arange(len(self._filled) + 1) * self._room))
        self._scores.ravel()[slots], self._rows.ravel()[slots] = scores, rows

    def _free(self, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take the next free places for candidates ``starts[i]:starts[i + 1]`` of query i.

        Returns:
            (P,) places, and (Q,) how many each query takes.
        """
        counts = np.diff(starts)
        shift = np.arange(len(counts)) * self._room + self._filled - starts[:-1]
        self._filled += counts
        return np.arange(starts[-1]) + np.repeat(shift, counts), counts
