"""The documents of a data set as a stream, checked and counted in one pass."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from llara_eval.core.errors import DataError
from llara_eval.core.hashing import add_record
from llara_eval.core.types import Document

Numbered = Iterator[tuple[int, Document]]
"""Documents in order, each with the number, counted from 1, of its first line or of its row."""

Placed = Iterator[tuple[int | str, Document]]
"""Documents in order, each with its number or, if there are several files, the file's name and the number."""

Reader = Callable[[Path], Numbered]
"""A function that streams the documents of a file."""

_NO_QUERIES: Mapping[str, str] = MappingProxyType({})

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
        own_ids: Number of queries whose identifier is that of a document.
        own_texts: Number of these whose text is that of the document, with or without its title.
        ids: A hash of the set of document ids, in any order; see ``ids`` of a known data set.
        state: State of the source when it was scanned.
    """

    documents: int
    empty: int
    titled: int
    fingerprint: str
    judged_unknown: tuple[str, ...]
    own_ids: int
    own_texts: int
    ids: str
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
        read: Callable[[], Placed],
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
        self,
        judged: frozenset[str] = frozenset(),
        queries: Mapping[str, str] = _NO_QUERIES,
        advance: Callable[[int], None] = lambda n: None,
    ) -> CorpusFacts:
        """Read the corpus once, check it, and keep the result in ``facts``.

        The scan needs nine bytes of memory for each document: identifiers are compared by a 64-bit hash, and
        a second pass finds out whether equal hashes are equal identifiers.

        Args:
            judged: Document ids that occur in judgements.
            queries: Query id → text of the judged queries.
            advance: Called with the number of documents read since the last call.

        Raises:
            DataError: The corpus is empty, a line is malformed, or an identifier occurs twice.
        """
        self.facts, state = None, self._state()
        content = hashlib.sha256()
        hashes = array("Q")
        unknown, empty, titled, own_ids, own_texts = set(judged), 0, 0, 0, 0
        for document in self:
            hashes.append(hash64(document.doc_id))
            add_record(content, document if document.url else document[:3])  # BEIR documents have no URL
            unknown.discard(document.doc_id)
            empty += not document.contents
            titled += bool(document.title)
            if document.doc_id in queries:
                own_ids += 1
                text = queries[document.doc_id].strip()
                own_texts += text in (document.text.strip(), document.contents)
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
            documents=len(hashes),
            empty=empty,
            titled=titled,
            fingerprint=content.hexdigest(),
            judged_unknown=tuple(sorted(unknown)),
            own_ids=own_ids,
            own_texts=own_texts,
            ids=hashlib.sha256(np.ascontiguousarray(ordered, dtype="<u8").data).hexdigest()[:16],
            state=state,
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
        first: dict[str, int | str] = {}
        for number, (doc_id, *_) in self._read():
            if hash64(doc_id) not in suspected:
                continue
            if doc_id in first:
                earlier = f"is already on {self.unit} {first[doc_id]}; ids must be unique"
                raise DataError(f"{self.origin}:{number}: document id {doc_id!r} {earlier}")
            first[doc_id] = number


class Corpus(DocumentStream):
    """The documents of one or more files.

    Args:
        paths: The files.
        read: The reader of their format.

    Attributes:
        paths: The files.
    """

    def __init__(self, paths: Sequence[Path], read: Reader) -> None:
        self.paths = tuple(paths)
        origin = self.paths[0] if len(self.paths) == 1 else self.paths[0].parent
        super().__init__(str(origin), partial(_read_files, self.paths, read), partial(_state, self.paths))


def _state(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the size of each file and the time of its last change."""
    return [(status.st_size, status.st_mtime_ns) for status in map(Path.stat, paths)]


def _read_files(paths: Sequence[Path], read: Reader) -> Placed:
    """Stream the documents of files, each with its place."""
    if len(paths) == 1:
        yield from read(paths[0])
        return
    for path in paths:
        for number, document in read(path):
            yield f"{path.name}:{number}", document


def _read_passages(read: Callable[[], Placed], cut: Callable[[Document], Iterable[Document]]) -> Placed:
    """Stream the passages of documents, each with the number of its document."""
    for number, document in read():
        for passage in cut(document):
            yield number, passage


def hash64(text: str) -> int:
    """Return 64 bits that depend on a text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
