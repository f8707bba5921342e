"""Vectors that a Python object makes: kept while it lives, and searched exactly.

They lie as float32 in a temporary file, so that memory is bounded by one block of texts whatever the corpus.

Shapes: n texts of a block, N documents, Q queries, D width.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.paths import home
from llara_eval.core.protocols import SILENT, Corpus, Progress
from llara_eval.core.types import Hits, Ids, Query, as_ids
from llara_eval.search.search import Index, Queries, as_hits, as_tensor, nearest
from llara_eval.vectors.vector_store import Vectors

BLOCK = 4_096
"""Texts that an object is given at a time."""

Item = TypeVar("Item")
Encode = Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Document vectors as the search takes them: mapped from a temporary file, a block of rows at a time."""

    ids: Ids
    rows: NDArray[np.float32]

    def __iter__(self) -> Iterator[Vectors]:
        for start in range(0, len(self.ids), BLOCK):
            part = slice(start, start + BLOCK)
            rows: NDArray[Any] = self.rows[part]
            yield Vectors(self.ids[part], rows)


class EncoderRetriever:
    """An object that encodes, as a retriever; see :class:`llara_eval.core.protocols.Retriever`.

    Args:
        name: The system's name.
        settings: What is recorded of it.
        encode_queries: Makes (n, D) vectors of a list of n texts.
        encode_documents: Makes (n, D) vectors of a list of n documents.
        unit: Whether vectors are divided by their lengths first, so that inner products are cosines.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        encode_queries: Encode,
        encode_documents: Encode,
        *,
        unit: bool,
    ) -> None:
        self.name = name
        self.settings: Mapping[str, Any] = settings
        self.phases: dict[str, dict[str, float]] = {}
        self._encode_queries = encode_queries
        self._encode_documents = encode_documents
        self._unit = unit
        self._documents: _Blocks | None = None

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Encode all documents.

        Raises:
            DataError: The object returns something else than one finite vector for each document.
        """
        started = time.perf_counter()
        ids: list[str] = []
        home().mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryFile(dir=home()) as file,
            progress.task(f"encode ({self.name})", len(corpus)) as advance,
        ):
            width = 0
            for block in _blocks(corpus):
                names = [document.doc_id for document in block]
                vectors = self._checked(self._encode_documents(block), names, "document", width)
                file.write(vectors.data)
                width = vectors.shape[1]
                ids += names
                advance(len(names))
            file.flush()
            rows = np.memmap(file, np.float32, "r", shape=(len(ids), width))  # stays when the file is closed
        self._documents = _Blocks(as_ids(ids), rows)
        self.phases["index"] = {"seconds": _seconds(started), "documents": len(ids)}

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Encode the queries and search all documents exactly.

        Raises:
            DataError: The object returns something else than one finite vector for each query.
            RuntimeError: There is no index yet.
        """
        if self._documents is None:
            raise RuntimeError("index() comes first")
        started, width = time.perf_counter(), self._documents.rows.shape[1]
        vectors = [
            self._checked(
                self._encode_queries([query.text for query in block]),
                [query.query_id for query in block],
                "query",
                width,
            )
            for block in _blocks(queries)
        ]
        encoded = time.perf_counter()
        asked = Queries(as_ids(query.query_id for query in queries), np.concatenate(vectors))
        index = Index(self._documents, len(self._documents.ids), as_tensor)
        hits = as_hits(nearest(asked, index, depth, "torch", progress), asked, index)
        self.phases["encode queries"] = {"seconds": round(encoded - started, 3), "queries": len(queries)}
        self.phases["search"] = {"seconds": _seconds(encoded), "queries": len(queries)}
        return hits

    def _checked(self, output: Any, ids: Sequence[str], what: str, width: int) -> NDArray[np.float32]:
        """Return (n, D) float32 vectors, of length 1 for cosines.

        Raises:
            DataError: The output is not a finite (n, D) array of numbers, or D is not ``width`` (0: any).
        """
        vectors = as_vectors(output, f"{self.name}, {what} {ids[0]!r} and those after it")
        if vectors.ndim != 2 or len(vectors) != len(ids) or not vectors.shape[1]:
            raise DataError(
                f"{self.name} was given {len(ids)} texts ({what} {ids[0]!r}, …) and returned an array of "
                f"shape {vectors.shape}; expected ({len(ids)}, width)"
            )
        if width and vectors.shape[1] != width:
            raise DataError(
                f"{self.name} returned vectors of width {vectors.shape[1]} for {what} {ids[0]!r}; those of "
                f"the documents before have {width}"
            )
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise DataError(f"{self.name}: the vector of {what} {ids[int(finite.argmin())]!r} is not finite")
        if self._unit:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
            vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
        return np.ascontiguousarray(vectors)


def as_vectors(output: Any, origin: str) -> NDArray[np.float32]:
    """Return what an encoder returns as a float32 array: an array, a torch tensor, or a list of either.

    Raises:
        DataError: It is no array of numbers.
    """
    if isinstance(output, list | tuple) and output and hasattr(output[0], "detach"):
        return np.stack([as_vectors(row, origin) for row in output])
    if hasattr(output, "detach"):  # a torch tensor, of any type and on any device
        output = output.detach().float().cpu().numpy()
    try:
        array = np.asarray(output)
        if array.dtype.kind not in "fiu":
            raise ValueError(f"its type is {array.dtype}")
    except (TypeError, ValueError) as error:
        raise DataError(f"{origin}: expected an array of numbers ({error})") from error
    return array.astype(np.float32, copy=False)


def _blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield lists of at most :data:`BLOCK` items."""
    left = iter(items)
    while block := list(islice(left, BLOCK)):
        yield block


def _seconds(since: float) -> float:
    return round(time.perf_counter() - since, 3)
