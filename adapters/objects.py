"""Python objects as systems: an encoder of queries and documents, or anything that searches.

The vectors of an encoder are kept as float32 in a temporary file while the object lives, and searched exactly
by our own search room, so that memory is bounded by one block of texts whatever the corpus.

Shapes: n texts of a block, N documents, Q queries, D width.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol, TypeGuard, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.paths import home
from llara_eval.core.protocols import SILENT, Corpus, Progress, Retriever
from llara_eval.core.types import Document, Hits, Ids, Query, as_ids
from llara_eval.scoring.inputs import as_hits
from llara_eval.search.exact import Index, Queries, as_tensor
from llara_eval.search.exact import as_hits as hits_of_pairs
from llara_eval.search.search import nearest
from llara_eval.vectors.vector_store import Vectors

Similarity = Literal["dot", "cosine"]

BLOCK = 4_096
"""Texts that an object is given at a time."""

Item = TypeVar("Item")
Encode = Callable[[list[Any]], Any]


class DualEncoder(Protocol):
    """Encodes queries and documents."""

    def encode_queries(self, texts: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n texts."""

    def encode_documents(self, texts: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n texts."""


class BeirEncoder(Protocol):
    """Encodes as BEIR's models do: a document is a dictionary of ``title`` and ``text``."""

    def encode_queries(self, queries: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n texts."""

    def encode_corpus(self, corpus: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n dictionaries."""


class TextEncoder(Protocol):
    """Encodes as sentence-transformers does; its ``encode_query`` and ``encode_document`` come first."""

    def encode(self, texts: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n texts."""


class Searcher(Protocol):
    """Searches by itself; an ``index(corpus)`` is called first if present."""

    def search(self, queries: Any, depth: Any, /) -> Any:
        """Return hits, query_id → doc_id → score, or a data frame, for a list of queries."""


PythonSystem = Retriever | DualEncoder | BeirEncoder | TextEncoder | Searcher
"""A Python object that can be evaluated."""


def is_retriever(model: object) -> TypeGuard[Retriever]:
    """Return whether an object has all that :class:`llara_eval.core.protocols.Retriever` asks for."""
    return all(hasattr(model, name) for name in ("name", "settings", "phases", "index", "search"))


def as_retriever(
    model: PythonSystem, *, name: str | None = None, similarity: Similarity | None = None
) -> Retriever:
    """Return an object as a retriever; one that is a retriever already is returned as it is.

    Args:
        model: An object with one of these, tried in this order: ``encode_queries`` and ``encode_documents``;
            ``encode_queries`` and ``encode_corpus`` (BEIR); ``encode_query`` and ``encode_document``, or
            ``encode`` alone (sentence-transformers); ``search``. Encoders take a list of texts
            (``encode_corpus`` a list of dictionaries) and return an (n, D) numpy array or torch tensor. If
            the object has ``settings`` (a mapping of JSON values), they are recorded with its results.
        name: How the system is called; None takes ``model.name``.
        similarity: ``dot`` or ``cosine``; None takes what a sentence-transformers model says of itself
            (``similarity_fn_name``), else ``dot``.

    Raises:
        UsageError: The object has none of these methods or no name, or the similarity is neither.
    """
    if is_retriever(model):
        if name is not None or similarity is not None:
            raise UsageError(f"{model.name} is a retriever: it has a name and a similarity of its own")
        return model
    called = name or getattr(model, "name", None)
    if not isinstance(called, str) or not called.strip():
        raise UsageError(
            f"{type(model).__name__} has no name to file its results under: give it an attribute `name`, or "
            "call llara_eval.wrap(model, name=...)"
        )
    sides = _sides(model)
    if sides is not None:
        return EncoderRetriever(called, model, *sides, _similarity(model, similarity))
    if similarity is not None:
        raise UsageError(f"{called} searches by itself: a similarity is of objects that encode")
    if callable(getattr(model, "search", None)):
        return SearcherRetriever(called, model)
    raise UsageError(
        f"{type(model).__name__} cannot be evaluated: it has neither encode_queries with encode_documents "
        "(or encode_corpus), nor encode_query with encode_document, nor encode, nor search"
    )


def _sides(model: object) -> tuple[Encode, Encode] | None:
    """Return what encodes queries, and what encodes documents; None if nothing does."""
    method: dict[str, Any] = {
        name: function
        for name in (
            "encode_queries",
            "encode_documents",
            "encode_corpus",
            "encode_query",
            "encode_document",
            "encode",
        )
        if callable(function := getattr(model, name, None))
    }
    for queries, documents, convert in (
        ("encode_queries", "encode_documents", _contents),
        ("encode_queries", "encode_corpus", _beir_documents),
        ("encode_query", "encode_document", _contents),
        ("encode", "encode", _contents),
    ):
        if queries in method and documents in method:
            encode = method[documents]
            return method[queries], lambda block, encode=encode, convert=convert: encode(convert(block))
    return None


def _contents(documents: Iterable[Document]) -> list[str]:
    return [document.contents for document in documents]


def _beir_documents(documents: Iterable[Document]) -> list[dict[str, str]]:
    """Return documents as BEIR's models take them; a URL goes before the title, as in all our texts."""
    return [
        {"title": " ".join(filter(None, (document.url, document.title))), "text": document.text}
        for document in documents
    ]


def _similarity(model: object, chosen: str | None) -> Similarity:
    """Return the similarity that was chosen, or the one that the model says it is used with.

    Raises:
        UsageError: It is neither ``dot`` nor ``cosine``.
    """
    said = getattr(model, "similarity_fn_name", None)
    similarity = str(chosen or getattr(said, "value", said) or "dot")
    for name in get_args(Similarity):
        if similarity == name:
            known: Similarity = name
            return known
    raise UsageError(f"similarity {similarity!r} is not one of {', '.join(get_args(Similarity))}")


def _settings(model: object, **own: Any) -> dict[str, Any]:
    """Return what is recorded of an object: what it says of itself, its class, and what we add.

    Raises:
        UsageError: What it says of itself are not JSON values.
    """
    said = getattr(model, "settings", None)
    settings = {**(said if isinstance(said, Mapping) else {}), "object": type(model).__qualname__, **own}
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the settings of {type(model).__name__} cannot be recorded as JSON ({error})"
        ) from error
    return settings


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
        model: The object, for the record.
        encode_queries: Makes (n, D) vectors of a list of n texts.
        encode_documents: Makes (n, D) vectors of a list of n documents.
        similarity: Whether vectors are divided by their lengths first.
    """

    def __init__(
        self,
        name: str,
        model: object,
        encode_queries: Encode,
        encode_documents: Encode,
        similarity: Similarity,
    ) -> None:
        self.name = name
        self.settings: Mapping[str, Any] = _settings(model, similarity=similarity)
        self.phases: dict[str, dict[str, float]] = {}
        self._encode_queries = encode_queries
        self._encode_documents = encode_documents
        self._unit = similarity == "cosine"
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
        hits = hits_of_pairs(nearest(asked, index, depth, "torch", progress), asked, index)
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
            vectors = vectors / np.where(lengths > 0, lengths, np.float32(1))
        return np.ascontiguousarray(vectors)


class SearcherRetriever:
    """An object that searches by itself, as a retriever; see :class:`llara_eval.core.protocols.Retriever`.

    Args:
        name: The system's name.
        model: The object; its ``index(corpus)`` is called first if it has one.
    """

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        self.settings: Mapping[str, Any] = _settings(model)
        self.phases: dict[str, dict[str, float]] = {}
        self._model = model

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Give the object the corpus, if it takes one."""
        if callable(index := getattr(self._model, "index", None)):
            started = time.perf_counter()
            index(corpus)
            self.phases["index"] = {"seconds": _seconds(started), "documents": len(corpus)}

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Search, and bring what is found into hits of exactly these queries.

        Raises:
            DataError: The object returns neither hits, nor a dictionary of dictionaries, nor a data frame; or
                hits of a query that was not asked.
        """
        started = time.perf_counter()
        hits = as_hits(self._model.search(list(queries), depth))
        row = {query.query_id: number for number, query in enumerate(queries)}
        unknown = [query_id for query_id in hits.query_ids if query_id not in row]
        if unknown:
            raise DataError(f"{self.name} returned hits of the query {unknown[0]!r}, which was not asked")
        rows = np.array([row[query_id] for query_id in hits.query_ids], dtype=np.int64)
        self.phases["search"] = {"seconds": _seconds(started), "queries": len(queries)}
        return Hits(as_ids(row), hits.doc_ids, rows[hits.query], hits.doc, hits.score)


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
