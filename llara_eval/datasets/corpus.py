"""Documents streamed from disk, and the reading of a folder in BEIR layout: every defect is named.

``corpus.jsonl[.gz]`` is streamed and never held; ``queries.jsonl[.gz]`` and ``qrels/<split>.tsv``
are small and held.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llara_eval.core.errors import DataError
from llara_eval.core.lines import objects
from llara_eval.core.types import Document, Query

Reader = Callable[[Path], Iterator[tuple[int, Document]]]
"""Streams the documents of a file in its order, each with the number of the line it begins on."""

REPORT_EVERY = 1_000
"""Documents between two reports of progress."""


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """What one pass over a corpus found.

    Attributes:
        documents: Number of documents.
        empty: Number of documents without any text.
        fingerprint: SHA-256 of the normalised content, in order.
        judged_unknown: Judged document ids that the corpus lacks, sorted.
        state: Size and time of the file then.
    """

    documents: int
    empty: int
    fingerprint: str
    judged_unknown: tuple[str, ...]
    state: tuple[int, int]


def _state(path: Path) -> tuple[int, int]:
    """Return what changes with a file: its size, and when it was written."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def read_jsonl(path: Path, *, id_field: str = "_id") -> Iterator[tuple[int, Document]]:
    """Stream a ``corpus.jsonl[.gz]``: one object a line with an id, ``text`` and optionally ``title``.

    Raises:
        DataError: A line is malformed.
    """
    for number, row in objects(path):
        yield (
            number,
            Document(
                _identifier(path, number, row, id_field),
                _text(path, number, row, "title", optional=True),
                _text(path, number, row, "text"),
            ),
        )


class Corpus:
    """The documents of a data set, streamed from disk at each iteration.

    Args:
        path: The file.
        read: Reads it; BEIR's ``corpus.jsonl`` by default.
    """

    def __init__(self, path: Path, read: Reader = read_jsonl) -> None:
        self.path = path
        self.read = read
        self.facts: CorpusFacts | None = None

    def __iter__(self) -> Iterator[Document]:
        """Stream the documents in file order.

        Raises:
            DataError: A line is malformed, or the file is not the one whose facts are known any more.
        """
        for _, document in self.read(self.path):
            yield document
        if self.facts is not None and self.facts.state != _state(self.path):
            raise DataError(
                f"{self.path} has changed since it was first read: leave it alone while it is in use, and "
                "give the same command again"
            )

    def split(self, cut: Callable[[Document], Iterable[Document]]) -> "Corpus":
        """Return the corpus of the parts into which ``cut`` divides each document."""
        return Corpus(self.path, partial(_read_parts, self.read, cut))

    def scan(
        self, judged: frozenset[str] = frozenset(), advance: Callable[[int], None] = lambda n: None
    ) -> CorpusFacts:
        """Read the corpus once, check it, and remember what was found in ``facts``.

        Memory is nine bytes a document: identifiers are compared by a 64-bit hash, and a second
        pass settles whether equal hashes are equal identifiers.

        Args:
            judged: Document ids that occur in judgements.
            advance: Told now and then how many more documents have been read.

        Raises:
            DataError: The corpus is empty, a line is malformed, or an identifier occurs twice.
        """
        self.facts, state = None, _state(self.path)
        content = hashlib.sha256()
        hashes = array("Q")
        missing, empty = set(judged), 0
        for document in self:
            hashes.append(_hash64(document.doc_id))
            fields = document if document.url else document[:3]  # as it was before there were URLs
            content.update("\x1f".join(fields).encode() + b"\x1e")
            missing.discard(document.doc_id)
            empty += not document.contents
            if not len(hashes) % REPORT_EVERY:
                advance(REPORT_EVERY)
        advance(len(hashes) % REPORT_EVERY)
        if not hashes:
            raise DataError(f"{self.path}: the corpus is empty")
        ordered = np.frombuffer(hashes, dtype=np.uint64)
        ordered.sort()  # in place: a sorted copy would be the largest thing in memory
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(repeated):
            self._refuse_repeats(frozenset(repeated.tolist()))
        self.facts = CorpusFacts(len(hashes), empty, content.hexdigest(), tuple(sorted(missing)), state)
        return self.facts

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the normalised content; scans the corpus if that has not been done."""
        return (self.facts or self.scan()).fingerprint

    def __len__(self) -> int:
        """Return the number of documents; scans the corpus if that has not been done."""
        return (self.facts or self.scan()).documents

    def _refuse_repeats(self, suspected: frozenset[int]) -> None:
        """Raise if an identifier whose hash is suspected occurs twice, naming both lines."""
        first_line: dict[str, int] = {}
        for number, (doc_id, *_) in self.read(self.path):
            if _hash64(doc_id) not in suspected:
                continue
            if doc_id in first_line:
                raise DataError.at(
                    self.path,
                    number,
                    f"document id {doc_id!r} is already on line {first_line[doc_id]}; ids must be unique",
                )
            first_line[doc_id] = number


def _read_parts(
    read: Reader, cut: Callable[[Document], Iterable[Document]], path: Path
) -> Iterator[tuple[int, Document]]:
    """Stream the parts of the documents that a reader streams, each with its document's line."""
    for number, document in read(path):
        for part in cut(document):
            yield number, part


def read_queries(path: Path) -> dict[str, Query]:
    """Read ``queries.jsonl[.gz]``, in file order.

    Raises:
        DataError: A line is malformed or an identifier occurs twice.
    """
    queries: dict[str, Query] = {}
    for number, row in objects(path):
        query_id = _identifier(path, number, row)
        if query_id in queries:
            raise DataError.at(path, number, f"query id {query_id!r} occurs twice; ids must be unique")
        queries[query_id] = Query(query_id, _text(path, number, row, "text"))
    return queries


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _identifier(path: Path, number: int, row: dict[str, Any], field: str = "_id") -> str:
    """Return the identifier of a row as a string that can stand in a tab-separated line."""
    if field not in row:
        found = ", ".join(row) or "nothing"
        raise DataError.at(path, number, f"the field {field!r} is missing; found {found}")
    value = row[field]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError.at(path, number, f"{field!r} must be a non-empty string, found {value!r}")
    return usable_id(path, number, value, field)


def usable_id(path: Path, number: int, value: str, field: str = "id") -> str:
    """Return an identifier if it can stand in a tab-separated line.

    Raises:
        DataError: It is empty, or has a tab, line break, control character or outer space.
    """
    if not value or value != value.strip() or not value.isprintable():
        raise DataError.at(
            path,
            number,
            f"{field!r} {value!r} is empty or has a tab, line break, control character or outer space",
        )
    return value


def _text(path: Path, number: int, row: dict[str, Any], field: str, *, optional: bool = False) -> str:
    """Return a text field; a missing or null optional field is the empty string."""
    value = row.get(field)
    if value is None and (optional or field in row):
        return ""
    if not isinstance(value, str):
        problem = f"the field {field!r} is missing" if field not in row else f"{field!r} must be a string"
        raise DataError.at(path, number, f"{problem}; id {row.get('_id', row.get('docid'))!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError.at(path, number, f"{field!r} holds half a surrogate pair ({error.reason})") from error
    return value
