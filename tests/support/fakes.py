"""Retrievers for tests: cheap and deterministic; they record how they were called."""

from collections.abc import Mapping, Sequence
from typing import Any

from llara_eval.core.errors import DataError, MissingPartError
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.types import Hits, Query
from llara_eval.datasets.corpus import Corpus

ScoreTable = Mapping[str, Mapping[str, float]]


class FakeRetriever:
    """Returns given scores: query_id → doc_id → score."""

    def __init__(self, scores: ScoreTable, *, name: str = "fake", **settings: Any) -> None:
        self.name = name
        self.settings = {"k1": 0.9, "runtime": {"threads": 2}, **settings}
        self.phases: dict[str, dict[str, float]] = {}
        self.scores = scores
        self.indexed = 0
        self.depths: list[int] = []

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        self.indexed += 1
        self.phases["index"] = {"documents": len(corpus)}

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        self.depths.append(depth)
        rows = ((query.query_id, doc, score) for query in queries for doc, score in self.answer(query))
        return Hits.of_rows(rows, (query.query_id for query in queries))

    def answer(self, query: Query) -> list[tuple[str, float]]:
        return list(self.scores.get(query.query_id, {}).items())


class WordOverlap(FakeRetriever):
    """Scores a document by the share of its words, or of their first letters, that the query has."""

    def __init__(self, *, name: str = "words", letters: int = 99, **settings: Any) -> None:
        super().__init__({}, name=name, letters=letters, **settings)
        self.letters = letters
        self.documents: dict[str, set[str]] = {}

    def on(self, dataset: str, text_length: int | None) -> "WordOverlap":
        """Return this system, which reads all data sets alike."""
        return self

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        super().index(corpus)
        self.documents = {document.doc_id: self.words(document.contents) for document in corpus}

    def answer(self, query: Query) -> list[tuple[str, float]]:
        query_words = self.words(query.text)
        scores = (
            (doc, len(query_words & words) / max(1, len(words))) for doc, words in self.documents.items()
        )
        return [(doc, score) for doc, score in scores if score]

    def words(self, text: str) -> set[str]:
        return {word[: self.letters] for word in text.lower().split()}


def open_words(name: str, base: Mapping[str, Any], options: Mapping[str, Any], context: Any) -> WordOverlap:
    """Open a working system."""
    return WordOverlap(name=name, **base, **options)


def open_broken(name: str, base: Mapping[str, Any], options: Mapping[str, Any], context: Any) -> WordOverlap:
    """Open a system whose data are corrupt."""
    raise DataError("vectors.npy: the checksum is wrong")


def open_missing(name: str, base: Mapping[str, Any], options: Mapping[str, Any], context: Any) -> WordOverlap:
    """Open a system that needs an optional part which is not installed."""
    raise MissingPartError("needs its weights: pip install the-weights")


class _Interrupted(WordOverlap):
    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        raise KeyboardInterrupt


def open_interrupted(
    name: str, base: Mapping[str, Any], options: Mapping[str, Any], context: Any
) -> WordOverlap:
    """Open a system whose search is interrupted by Ctrl-C."""
    return _Interrupted(name=name)
