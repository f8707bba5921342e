"""Python objects as systems: an encoder of queries and documents, or an object that searches by itself.

The vectors that an encoder returns are kept as float32 in a temporary file, so that memory is bounded by one
block of texts whatever the size of the corpus. They are searched exactly.

Shapes: n texts of a block, N documents, D width.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.paths import home
from llara_eval.core.protocols import SILENT, Corpus, Progress, Retriever
from llara_eval.core.types import Document, Hits, Query, as_ids
from llara_eval.scoring.inputs import as_hits

if TYPE_CHECKING:
    from llara_eval.vectors.vector_store import Vectors

BLOCK = 4_096
"""Texts that an encoder is given in one call."""

Similarity = Literal["dot", "cosine"]

Encode = Callable[[Any], Any]
"""Turns a list of n queries or documents into an (n, D) array or tensor."""


class QueryEncoder(Protocol):
    """An encoder of queries, which needs a method for documents too."""

    def encode_queries(self, texts: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n texts."""


class DualEncoder(QueryEncoder, Protocol):
    """An encoder with a method for queries and one for documents."""

    def encode_documents(self, texts: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n texts."""


class BeirEncoder(QueryEncoder, Protocol):
    """An encoder as BEIR's models are: a document is a dictionary of ``title`` and ``text``."""

    def encode_corpus(self, corpus: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n dictionaries."""


class TextEncoder(Protocol):
    """A model of sentence-transformers; ``encode_query`` and ``encode_document`` take precedence."""

    def encode(self, texts: Any, /) -> Any:
        """Return an (n, D) array or tensor for a list of n texts."""


class Searcher(Protocol):
    """An object that searches by itself; its ``index(corpus)`` is called first if there is one."""

    def search(self, queries: Any, depth: Any, /) -> Any:
        """Return hits, query_id → doc_id → score, or a data frame, for a list of queries."""


PythonSystem = Retriever | DualEncoder | BeirEncoder | TextEncoder | Searcher
"""A Python object that can be evaluated."""


def as_retriever(
    model: PythonSystem, *, name: str | None = None, similarity: Similarity | None = None
) -> Retriever:
    """Return an object as a retriever; a retriever is returned as it is.

    Args:
        model: An object with one of these, tried in this order: ``encode_queries`` and ``encode_documents``;
            ``encode_queries`` and ``encode_corpus`` (BEIR); ``encode_query`` and ``encode_document``, or
            ``encode`` alone (sentence-transformers); ``search``. Encoders take a list of texts
            (``encode_corpus`` a list of dictionaries) and return an (n, D) numpy array or torch tensor. If
            the object has ``settings`` (a mapping of JSON values), they are recorded with its results.
        name: The name of the system; None takes ``model.name``.
        similarity: ``dot`` or ``cosine``; None takes the one that a sentence-transformers model declares
            (``similarity_fn_name``), else ``dot``.

    Raises:
        UsageError: The object has none of these methods, or no name; its settings are not JSON values; or
            the similarity is neither ``dot`` nor ``cosine``, or is given for an object that does not encode.
    """
    if all(hasattr(model, member) for member in ("name", "settings", "phases", "index", "search")):
        retriever = cast(Retriever, model)
        if name is not None or similarity is not None:
            raise UsageError(f"{retriever.name} is a retriever: it has a name and a similarity of its own")
        return retriever
    name = name or getattr(model, "name", None)
    if not isinstance(name, str) or not name.strip():
        raise UsageError(
            f"{type(model).__name__} has no name to file its results under: give it an attribute `name`, or "
            "call llara_eval.wrap(model, name=...)"
        )
    encoders = _encoders(model)
    if encoders is not None:
        return EncoderRetriever(name, model, *encoders, _similarity(model, similarity))
    if similarity is not None:
        raise UsageError(f"{name} searches by itself: a similarity is for objects that encode")
    if callable(getattr(model, "search", None)):
        return SearcherRetriever(name, model)
    raise UsageError(
        f"{type(model).__name__} cannot be evaluated: it has neither encode_queries with encode_documents "
        "(or encode_corpus), nor encode_query with encode_document, nor encode, nor search"
    )


def _encoders(model: object) -> tuple[Encode, Encode] | None:
    """Return the encoder of queries and the encoder of documents; None if the object does not encode."""
    contents = attrgetter("contents")
    for query_method, document_method, fields in (
        ("encode_queries", "encode_documents", contents),
        ("encode_queries", "encode_corpus", _title_and_text),
        ("encode_query", "encode_document", contents),
        ("encode", "encode", contents),
    ):
        queries, documents = getattr(model, query_method, None), getattr(model, document_method, None)
        if callable(queries) and callable(documents):
            return (
                lambda block, encode=queries: encode([query.text for query in block]),
                lambda block, encode=documents, fields=fields: encode([fields(item) for item in block]),
            )
    return None


def _title_and_text(document: Document) -> dict[str, str]:
    """Return a document as BEIR's models take it; a URL goes before the title, as in ``contents``."""
    return {"title": " ".join(filter(None, (document.url, document.title))), "text": document.text}


def _similarity(model: object, chosen: str | None) -> str:
    declared = getattr(model, "similarity_fn_name", None)
    similarity = str(chosen or getattr(declared, "value", declared) or "dot")
    if similarity not in get_args(Similarity):
        raise UsageError(f"similarity {similarity!r} is not one of {', '.join(get_args(Similarity))}")
    return similarity


class _ObjectRetriever:
    """The part of a retriever that all objects have: a name, settings and phases.

    Raises:
        UsageError: The settings of the object are not JSON values.
    """

    def __init__(self, name: str, model: object, **settings: Any) -> None:
        declared = getattr(model, "settings", None)
        self.name = name
        self.settings: Mapping[str, Any] = {
            **(declared if isinstance(declared, Mapping) else {}),
            "object": type(model).__qualname__,
            **settings,
        }
        self.phases: dict[str, dict[str, float]] = {}
        try:
            json.dumps(self.settings)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the settings of {type(model).__name__} cannot be recorded as JSON ({error})"
            ) from error

    def _note(self, phase: str, started: float, **counts: int) -> None:
        """Note the seconds since the start of a phase, and what was counted in it."""
        self.phases[phase] = {"seconds": round(time.perf_counter() - started, 3), **counts}


class EncoderRetriever(_ObjectRetriever):
    """An object that encodes, as a retriever; see :class:`llara_eval.core.protocols.Retriever`.

    Args:
        name: The name of the system.
        model: The object.
        encode_queries: Returns the (n, D) vectors of n queries.
        encode_documents: Returns the (n, D) vectors of n documents.
        similarity: ``dot`` or ``cosine``; for ``cosine``, vectors are divided by their lengths first.
    """

    def __init__(
        self,
        name: str,
        model: object,
        encode_queries: Encode,
        encode_documents: Encode,
        similarity: str,
    ) -> None:
        super().__init__(name, model, similarity=similarity)
        self._encode_queries = encode_queries
        self._encode_documents = encode_documents
        self._unit = similarity == "cosine"
        self._documents: Vectors | None = None

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Encode all documents.

        Raises:
            DataError: The object returned something else than one finite vector for each document.
        """
        from llara_eval.vectors.vector_store import Vectors

        started, ids, width = time.perf_counter(), list[str](), 0
        home().mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryFile(dir=home()) as file,
            progress.task(f"encode ({self.name})", len(corpus)) as advance,
        ):
            for block_ids, vectors in self._vectors("document", self._encode_documents, corpus):
                file.write(vectors.data)
                width = vectors.shape[1]
                ids += block_ids
                advance(len(block_ids))
            file.flush()
            # The memory stays mapped after the file has been closed.
            rows: NDArray[Any] = np.memmap(file, np.float32, "r", shape=(len(ids), width))
        self._documents = Vectors(as_ids(ids), rows)
        self._note("index", started, documents=len(ids))

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Encode the queries, and search all documents exactly.

        Raises:
            DataError: The object returned something else than one finite vector for each query.
            RuntimeError: There is no index yet.
        """
        from llara_eval.search import search

        if self._documents is None:
            raise RuntimeError("index() comes first")
        started, width = time.perf_counter(), self._documents.vectors.shape[1]
        blocks = [vectors for _, vectors in self._vectors("query", self._encode_queries, queries, width)]
        encoded = search.Queries(as_ids(query.query_id for query in queries), np.concatenate(blocks))
        self._note("encode queries", started, queries=len(queries))
        started = time.perf_counter()
        index = search.Index([self._documents], len(self._documents.ids), search.as_tensor)
        hits = search.as_hits(search.nearest(encoded, index, depth, "torch", progress), encoded, index)
        self._note("search", started, queries=len(queries))
        return hits

    def _vectors(
        self, side: str, encode: Encode, items: Iterable[Document | Query], width: int = 0
    ) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Yield the identifiers and the (n, D) vectors of each block of documents or queries.

        Raises:
            DataError: The object returned something else than a finite (n, D) array of numbers, or D is not
                ``width`` (0: the width of the first block).
        """
        unread = iter(items)
        while block := list(islice(unread, BLOCK)):
            ids = [item[0] for item in block]
            vectors = _as_array(encode(block), f"{self.name}, {side} {ids[0]!r} and those after it")
            expected = width or "width"
            width = width or (vectors.shape or (0,))[-1]
            if vectors.shape != (len(ids), width) or not width:
                raise DataError(
                    f"{self.name} was given {len(ids)} texts ({side} {ids[0]!r}, …) and returned an array of "
                    f"shape {vectors.shape}; expected ({len(ids)}, {expected})"
                )
            finite = np.isfinite(vectors).all(axis=1)
            if not finite.all():
                raise DataError(
                    f"{self.name}: the vector of {side} {ids[int(finite.argmin())]!r} is not finite"
                )
            if self._unit:
                lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
                vectors = np.divide(vectors, np.where(lengths > 0, lengths, 1), dtype=np.float32)
            yield ids, np.ascontiguousarray(vectors, dtype=np.float32)


def _as_array(output: Any, origin: str) -> NDArray[np.float32]:
    """Return the output of an encoder (an array, a torch tensor, or a list of either) as float32.

    Raises:
        DataError: The output is not an array of numbers.
    """
    try:
        array = np.asarray(
            [_on_cpu(row) for row in output] if isinstance(output, list | tuple) else _on_cpu(output)
        )
        if array.dtype.kind not in "fiu":
            raise ValueError(f"its type is {array.dtype}")
    except (TypeError, ValueError) as error:
        raise DataError(f"{origin}: expected an array of numbers ({error})") from error
    return array.astype(np.float32, copy=False)


def _on_cpu(value: Any) -> Any:
    """Return a torch tensor of any dtype on any device as a numpy array, and any other value as it is."""
    return value.detach().float().cpu().numpy() if hasattr(value, "detach") else value


class SearcherRetriever(_ObjectRetriever):
    """An object that searches by itself, as a retriever; see :class:`llara_eval.core.protocols.Retriever`.

    Args:
        name: The name of the system.
        model: The object; its ``index(corpus)`` is called first if there is one.
    """

    def __init__(self, name: str, model: Any) -> None:
        super().__init__(name, model)
        self._model = model

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Give the object the corpus, if it has a method for that."""
        if callable(index := getattr(self._model, "index", None)):
            started = time.perf_counter()
            index(corpus)
            self._note("index", started, documents=len(corpus))

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Search, and return the hits with the rows of these queries.

        Raises:
            DataError: The object returned neither hits, nor a dictionary of dictionaries, nor a data frame;
                or hits of a query that was not passed to it.
        """
        started = time.perf_counter()
        hits = as_hits(self._model.search(list(queries), depth))
        row_of = {query.query_id: row for row, query in enumerate(queries)}
        unknown = [query_id for query_id in hits.query_ids if query_id not in row_of]
        if unknown:
            raise DataError(
                f"{self.name} returned hits of the query {unknown[0]!r}, which was not passed to it"
            )
        rows = np.array([row_of[query_id] for query_id in hits.query_ids], dtype=np.int64)
        self._note("search", started, queries=len(queries))
        return Hits(as_ids(row_of), hits.doc_ids, rows[hits.query], hits.doc, hits.score)
