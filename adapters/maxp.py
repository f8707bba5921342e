"""MaxP: documents are cut into passages, and the score of a document is that of its best passage.

Any retriever becomes one of documents by searching their passages. The data set stays the same, so that
results can be compared with those of systems that read each document as one text (FirstP).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llara_eval.core.protocols import SILENT, Corpus, Progress, Retriever
from llara_eval.core.types import Document, Hits, Query
from llara_eval.scoring.ranking import best_passages

_PASSAGES_PER_DOCUMENT = 10
"""Passages searched for each document at first, as in Anserini's regressions; more are searched at need."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Overlapping windows into which a document is cut; words are separated by white space.

    150 words with a stride of 75 are those of Dai and Callan, "Deeper Text Understanding for IR with
    Contextual Neural Language Modeling", SIGIR 2019. (Anserini's segmented collections are cut by sentences,
    with spaCy.)

    Attributes:
        words: Words of a passage.
        stride: Words from the start of a passage to the start of the next one.
    """

    words: int = 150
    stride: int = 75

    def passages(self, document: Document) -> Iterator[Document]:
        """Yield the passages ``<id>#0``, ``<id>#1``, … (at least one), each with the URL and the title."""
        words = document.text.split()
        last = max(0, len(words) - self.words)
        for number, start in enumerate(range(0, last + self.stride, self.stride)):
            text = " ".join(words[start : start + self.words])
            yield document._replace(doc_id=f"{document.doc_id}#{number}", text=text)


class MaxP:
    """A retriever of documents by their passages; see :class:`llara_eval.core.protocols.Retriever`.

    Args:
        inner: The retriever of passages.
        windows: The windows into which documents are cut.
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
        """Search enough passages for ``depth`` documents of each query, if there are so many."""
        count = depth * _PASSAGES_PER_DOCUMENT
        while True:
            passages = self._inner.search(queries, count, progress)
            documents = best_passages(passages)
            n_documents, n_passages = (
                np.bincount(hits.query, minlength=len(queries)) for hits in (documents, passages)
            )
            if not np.any((n_documents < depth) & (n_passages >= count)):
                return documents
            count *= 4
