"""MaxP: documents are cut into passages, and the score of a document is that of its best passage.

Any retriever becomes one of documents by searching their passages. The data set stays the same, so that
results can be compared with those of systems that read each document as one text (FirstP).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from llara_eval.core.protocols import SILENT, Adjustable, Corpus, Progress, Retriever, Warned
from llara_eval.core.types import Document, Hits, Query
from llara_eval.scoring.ranking import best_passages

_PASSAGES_PER_DOCUMENT = 10
"""Passages searched for each document at first, as in Anserini's regressions; more are searched at need."""


def passages(document: Document, words: int, stride: int) -> Iterator[Document]:
    """Yield the passages ``<id>#0``, ``<id>#1``, … (at least one), each with the URL and the title.

    Args:
        document: The document; white space separates its words.
        words: Words of a passage.
        stride: Words from the start of a passage to the start of the next one.
    """
    text = document.text.split()
    last = max(0, len(text) - words)
    for number, start in enumerate(range(0, last + stride, stride)):
        passage = " ".join(text[start : start + words])
        yield document._replace(doc_id=f"{document.doc_id}#{number}", text=passage)


class MaxP:
    """A retriever of documents by their passages; see :class:`llara_eval.core.protocols.Retriever`.

    150 words with a stride of 75 are those of Dai and Callan, "Deeper Text Understanding for IR with
    Contextual Neural Language Modeling", SIGIR 2019. (Anserini's segmented collections are cut by sentences,
    with spaCy.)

    Args:
        inner: The retriever of passages.
        words: Words of a passage.
        stride: Words from the start of a passage to the start of the next one.

    Attributes:
        inner: The retriever of passages.
    """

    def __init__(self, inner: Retriever, words: int = 150, stride: int = 75) -> None:
        self.name = f"{inner.name},passages=maxp"
        self.settings: Mapping[str, Any] = {
            **inner.settings,
            "passages": {"maxp": {"words": words, "stride": stride}},
        }
        self.phases = inner.phases
        self.warnings = inner.warnings if isinstance(inner, Warned) else ()
        self.inner = inner
        self._size = {"words": words, "stride": stride}
        self._cut = partial(passages, words=words, stride=stride)

    def on(self, dataset: str, text_length: int | None) -> "MaxP":
        """Return a retriever of the documents of a data set; its passages have a length of their own."""
        inner = self.inner
        return MaxP(inner.on(dataset, None), **self._size) if isinstance(inner, Adjustable) else self

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Index the passages of all documents."""
        self.inner.index(corpus.split(self._cut), progress)

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Search enough passages for ``depth`` documents of each query, if there are so many."""
        count = depth * _PASSAGES_PER_DOCUMENT
        while True:
            hits = self.inner.search(queries, count, progress)
            documents = best_passages(hits)
            n_documents, n_passages = (
                np.bincount(part.query, minlength=len(queries)) for part in (documents, hits)
            )
            if not np.any((n_documents < depth) & (n_passages >= count)):
                return documents
            count *= 4
