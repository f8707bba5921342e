"""The official files of MS MARCO, gzipped or not, found and read line by line.

Text is left unchanged, as for all published numbers: quotes have no meaning, mojibake is not repaired, and
tabs in the last column belong to the text. The ``.tsv`` and the ``.trec`` form of the documents hold the same
pages with different line breaks, so their fingerprints differ.

Addresses and checksums are in ``data/msmarco_files.csv``; they are those of ir_datasets 0.6.3
(``etc/downloads.json``).
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from llara_eval.core.errors import DataError
from llara_eval.core.lines import text_lines
from llara_eval.core.paths import DATA
from llara_eval.core.types import Document, Query
from llara_eval.datasets.corpus import Corpus, Numbered, Reader
from llara_eval.datasets.folder import read_documents, unique_queries, usable_id
from llara_eval.datasets.known import KnownDataset


class Source(NamedTuple):
    """The source of an official file.

    Attributes:
        url: Address of the distributed file: the official file, its gzipped form, or an archive with it.
        md5: Checksum of the distributed file; None where it is not pinned.
        record: Name of the distributed file in ir_datasets; None where ir_datasets lacks it.
    """

    url: str
    md5: str | None
    record: str | None


def _sources() -> dict[str, Source]:
    with (DATA / "msmarco_files.csv").open(encoding="utf-8", newline="") as table:
        return {
            row["file"]: Source(row["url"], row["md5"] or None, row["record"] or None)
            for row in csv.DictReader(table)
        }


SOURCES: Mapping[str, Source] = MappingProxyType(_sources())
"""Name of an official file, without ``.gz`` → its source."""


def read_passages(path: Path) -> Numbered:
    """Stream ``collection.tsv``: passage id and text.

    Raises:
        DataError: A line is malformed.
    """
    for number, (doc_id, text) in _cells(path, 2):
        yield number, Document(doc_id, "", text)


def read_documents_tsv(path: Path) -> Numbered:
    """Stream ``msmarco-docs.tsv``: document id, URL, title and body.

    Raises:
        DataError: A line is malformed.
    """
    for number, (doc_id, url, title, body) in _cells(path, 4):
        yield number, Document(doc_id, title, body, url)


def read_documents_trec(path: Path) -> Numbered:
    """Stream ``msmarco-docs.trec``: between ``<TEXT>`` and ``</TEXT>`` a URL, a title, and the body.

    Raises:
        DataError: A document is malformed, or the file ends inside one.
    """
    for number, block in _blocks(path):
        name, opening, *fields, closing = block if len(block) > 2 else ["", "", ""]
        if (name[:7], name[-8:], opening, closing) != ("<DOCNO>", "</DOCNO>", "<TEXT>", "</TEXT>"):
            raise DataError.at(
                path, number, f"the document has no <DOCNO>, <TEXT> or </TEXT> in its place: {block[:2]!r}"
            )
        url, title, *body = fields + [""] * (2 - len(fields))
        yield number, Document(usable_id(path, number + 1, name[7:-8]), title, "\n".join(body), url)


def read_queries(path: Path) -> dict[str, Query]:
    """Read a file of queries: query id and text, in file order.

    Raises:
        DataError: A line is malformed or an identifier occurs twice.
    """
    return unique_queries(path, ((number, Query(*cells)) for number, cells in _cells(path, 2)))


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "collection.tsv": read_passages,
        "corpus.jsonl": read_documents,
        "msmarco-docs.tsv": read_documents_tsv,
        "msmarco-docs.trec": read_documents_trec,
    }
)
"""Name of a file of documents → its reader; ``corpus.jsonl`` holds the passages with titles."""


class Files(NamedTuple):
    """The files of documents, queries and judgements, in the order of ``KnownDataset.files``."""

    corpus: Path
    queries: Path
    qrels: Path

    @property
    def documents(self) -> Corpus:
        """The documents, streamed."""
        return Corpus([self.corpus], READERS[self.corpus.name.removesuffix(".gz")])


def find(known: KnownDataset, data_dir: Path) -> Files:
    """Find the files of a data set below a data folder.

    Raises:
        DataError: A file is missing; the message names all missing files and their addresses.
    """
    folder = data_dir / known.folder
    missing_files = missing(known, data_dir)
    if missing_files:
        lines = (
            f"\n  {' or '.join(names)}, gzipped or not, from {' or '.join(SOURCES[n].url for n in names)}"
            for names in missing_files
        )
        raise DataError(f"{known.name} is not complete in {folder}; missing files:{''.join(lines)}")
    return Files(*(path for names in known.files if (path := _first(folder, names))))


def missing(known: KnownDataset, data_dir: Path) -> list[tuple[str, ...]]:
    """Return the missing files of a data set, each with its alternative names."""
    return [names for names in known.files if _first(data_dir / known.folder, names) is None]


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first existing file of some names, gzipped or not, or None."""
    candidates = (folder / f"{name}{ending}" for name in names for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _cells(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of a tab-separated file; any more tabs belong to the last cell."""
    for number, line in text_lines(path):
        if not line:
            continue
        cells = line.split("\t", columns - 1)
        if len(cells) != columns:
            raise DataError.at(
                path,
                number,
                f"{len(cells)} of {columns} tab-separated columns: {line[:60]!r}; is it cut short?",
            )
        cells[0] = usable_id(path, number, cells[0])
        yield number, cells


def _blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, lines) of each block between ``<DOC>`` and ``</DOC>``."""
    start, block = 0, list[str]()
    for number, line in text_lines(path):
        if not start and line == "<DOC>":
            start, block = number, []
        elif not start and line.strip():
            raise DataError.at(path, number, f"expected <DOC>, found {line[:60]!r}")
        elif line == "</DOC>":
            yield start, block
            start = 0
        elif line == "<DOC>" and block[-1:] == ["</TEXT>"]:
            raise DataError.at(path, number, f"<DOC> before the </DOC> of the one on line {start}")
        else:
            block.append(line)
    if start:
        raise DataError.at(path, start, "the document that begins here has no </DOC>; is the file complete?")
