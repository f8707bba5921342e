"""The documents of a data set as a stream, checked and counted in one pass."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from llara_eval.core.errors import DataError
from llara_eval.core.types import Document
from llara_eval.datasets.folder import read_jsonl

Numbered = Iterator[tuple[int, Document]]
"""Documents in order, each with the number, counted from 1, of its first line or of its row."""

Reader = Callable[[Path], Numbered]
"""A function that streams the documents of a file."""

REPORT_EVERY = 1_000
"""Documents between two reports of progress."""


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """The counts and the fingerprint of a corpus.

    Attributes:
        documents: Number of documents.
        empty: Number of documents without any text.
        titled: Number of documents with a title.
        fingerprint: SHA-256 of the normalised content, in order.
        judged_unknown: Judged document ids that the corpus lacks, sorted.
        state: State of the source when it was scanned.
    """

    documents: int
    empty: int
    titled: int
    fingerprint: str
    judged_unknown: tuple[str, ...]
    state: object


class DocumentStream:
    """Documents that are read anew at each iteration; see :class:`llara_eval.core.protocols.Corpus`.

    Args:
        origin: The name of the source in messages.
        read: Returns a new stream of the documents.
        state: Returns a value that changes whenever the source changes.
        unit: The unit of the numbers of documents in messages: ``line`` or ``row``.
    """

    def __init__(
        self,
        origin: str,
        read: Callable[[], Numbered],
        state: Callable[[], object] = lambda: None,
        unit: str = "line",
    ) -> None:
        self.origin = origin
        self.unit = unit
        self.facts: CorpusFacts | None = None
        self._read = read
        self._state = state

    def __iter__(self) -> Iterator[Document]:
        """Stream the documents in order.

        Raises:
            DataError: A line is malformed, or the source has changed since it was scanned.
        """
        for _, document in self._read():
            yield document
        if self.facts is not None and self.facts.state != self._state():
            raise DataError(
                f"{self.origin} has changed since it was first read: leave it alone while it is in use, and "
                "give the same command again"
            )

    def split(self, cut: Callable[[Document], Iterable[Document]]) -> "DocumentStream":
        """Return the corpus of the passages into which ``cut`` divides each document."""
        return DocumentStream(self.origin, partial(_read_passages, self._read, cut), self._state, self.unit)

    def scan(
        self, judged: frozenset[str] = frozenset(), advance: Callable[[int], None] = lambda n: None
    ) -> CorpusFacts:
        """Read the corpus once, check it, and keep the result in ``facts``.

        The scan needs nine bytes of memory for each document: identifiers are compared by a 64-bit hash, and
        a second pass finds out whether equal hashes are equal identifiers.

        Args:
            judged: Document ids that occur in judgements.
            advance: Called with the number of documents read since the last call.

        Raises:
            DataError: The corpus is empty, a line is malformed, or an identifier occurs twice.
        """
        self.facts, state = None, self._state()
        content = hashlib.sha256()
        hashes = array("Q")
        unknown, empty, titled = set(judged), 0, 0
        for document in self:
            hashes.append(_hash64(document.doc_id))
            fields = document if document.url else document[:3]  # BEIR documents have no URL
            content.update("\x1f".join(fields).encode() + b"\x1e")
            unknown.discard(document.doc_id)
            empty += not document.contents
            titled += bool(document.title)
            if not len(hashes) % REPORT_EVERY:
                advance(REPORT_EVERY)
        advance(len(hashes) % REPORT_EVERY)
        if not hashes:
            raise DataError(f"{self.origin}: the corpus is empty")
        ordered = np.frombuffer(hashes, dtype=np.uint64)
        ordered.sort()  # in place: a sorted copy would be the largest thing in memory
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(repeated):
            self._refuse_repeats(frozenset(repeated.tolist()))
        self.facts = CorpusFacts(
            len(hashes), empty, titled, content.hexdigest(), tuple(sorted(unknown)), state
        )
        return self.facts

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the normalised content; scans the corpus if it has not been scanned."""
        return (self.facts or self.scan()).fingerprint

    @property
    def titled(self) -> int:
        """Number of documents with a title; scans the corpus if it has not been scanned."""
        return (self.facts or self.scan()).titled

    def __len__(self) -> int:
        """Return the number of documents; scans the corpus if it has not been scanned."""
        return (self.facts or self.scan()).documents

    def _refuse_repeats(self, suspected: frozenset[int]) -> None:
        """Raise an error that names both lines if an identifier with a suspected hash occurs twice."""
        first: dict[str, int] = {}
        for number, (doc_id, *_) in self._read():
            if _hash64(doc_id) not in suspected:
                continue
            if doc_id in first:
                raise DataError.at(
                    self.origin,
                    number,
                    f"document id {doc_id!r} is already on {self.unit} {first[doc_id]}; ids must be unique",
                )
            first[doc_id] = number


class Corpus(DocumentStream):
    """The documents of a file.

    Args:
        path: The file.
        read: The reader of its format; that of BEIR's ``corpus.jsonl`` by default.
    """

    def __init__(self, path: Path, read: Reader = read_jsonl) -> None:
        super().__init__(str(path), partial(read, path), partial(_state, path))
        self.path = path


def _state(path: Path) -> tuple[int, int]:
    """Return the size of a file and the time of its last change."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _read_passages(read: Callable[[], Numbered], cut: Callable[[Document], Iterable[Document]]) -> Numbered:
    """Stream the passages of documents, each with the number of its document."""
    for number, document in read():
        for passage in cut(document):
            yield number, passage


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
