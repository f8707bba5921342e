"""MaxP: documents cut into passages, each document as good as its best passage.

Any retriever becomes one of documents by searching their passages; the data set stays what it is, so
that its results stand beside those of systems that read each document as one text (FirstP).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llara_eval.core.protocols import SILENT, Corpus, Progress, Retriever
from llara_eval.core.types import Document, Hits, Query
from llara_eval.scoring.ranking import best_passages

_PASSAGES_PER_DOCUMENT = 10
"""Passages searched for each document wanted, more at need; Anserini's regressions take as many."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How a document is cut: words are what white space separates, in windows that overlap.

    Attributes:
        words: Words of a passage.
        stride: Words from the start of one to the start of the next. 150 and 75 are those of Dai and
            Callan, "Deeper Text Understanding for IR with Contextual Neural Language Modeling", SIGIR
            2019. (Anserini's segmented collections are cut by sentences, with spaCy.)
    """

    words: int = 150
    stride: int = 75

    def passages(self, document: Document) -> Iterator[Document]:
        """Yield the passages ``<id>#0``, ``<id>#1``, …, each with URL and title; at least one."""
        words = document.text.split()
        last = max(0, len(words) - self.words)
        for number, start in enumerate(range(0, last + self.stride, self.stride)):
            text = " ".join(words[start : start + self.words])
            yield document._replace(doc_id=f"{document.doc_id}#{number}", text=text)


class MaxP:
    """A retriever of documents by their passages; see :class:`llara_eval.core.protocols.Retriever`.

    Args:
        inner: Retrieves passages.
        windows: How documents are cut.
    """

    def __init__(self, inner: Retriever, windows: Windows) -> None:
        self.name = f"{inner.name},passages=maxp"
        self.settings: Mapping[str, Any] = {**inner.settings, "passages": {"maxp": asdict(windows)}}
        self.phases = inner.phases
        self._inner = inner
        self._windows = windows

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Index the passages of all documents."""
        self._inner.index(corpus.split(self._windows.passages), progress)

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Search as many passages as it takes for ``depth`` documents a query, if there are so many."""
        count = depth * _PASSAGES_PER_DOCUMENT
        while True:
            passages = self._inner.search(queries, count, progress)
            documents = best_passages(passages)
            found, left = (np.bincount(hits.query, minlength=len(queries)) for hits in (documents, passages))
            if not np.any((found < depth) & (left >= count)):
                return documents
            count *= 4
