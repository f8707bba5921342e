"""Python objects as systems: an encoder of queries and documents, or anything that searches.

Shapes: n texts of a list, D width.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeGuard, get_args

import numpy as np

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.protocols import SILENT, Corpus, Progress, Retriever
from llara_eval.core.types import Document, Hits, Query, as_ids
from llara_eval.scoring.inputs import as_hits

Similarity = Literal["dot", "cosine"]

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
        return _encoder(model, called, sides, _similarity(model, similarity))
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


def _encoder(model: object, name: str, sides: tuple[Encode, Encode], similarity: Similarity) -> Retriever:
    """Return an encoder as a retriever; torch is imported for the search."""
    from adapters.in_memory import EncoderRetriever

    settings = _settings(model, similarity=similarity)
    return EncoderRetriever(name, settings, *sides, unit=similarity == "cosine")


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


def _seconds(since: float) -> float:
    return round(time.perf_counter() - since, 3)
