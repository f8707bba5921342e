"""Training pairs: how they are read, which queries must not be among them, and the texts of their corpus."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from llara_eval.core import tables
from llara_eval.core.errors import DataError
from llara_eval.core.files import sha256_of, slug
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.sealed import Writable, cached_file
from llara_eval.core.types import Document, Ids
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.files import is_collection
from llara_eval.datasets.folder import corpus_of, read_documents, read_judged, splits
from llara_eval.datasets.layout import is_folder
from llara_eval.datasets.same_text import normalised
from llara_eval.datasets.training_files import TRAIN, training_files
from llara_eval.datasets.training_rows import read_groups
from llara_eval.training import groups
from llara_eval.training.data import RowFormat, Rows, write_rows

logger = logging.getLogger(__name__)


def read_pairs(data: Sequence[Path], *, cache: Path, progress: Progress = SILENT) -> Rows:
    """Read training pairs, with or without negatives.

    Args:
        data: Files in any form of :mod:`llara_eval.datasets.training_rows`, folders of such files, or folders
            of test collections, whose training split is read; ``folder:configuration`` names a configuration.
        cache: Folder for indexes, and for the rows made from folders and from the files of other tools.
        progress: The display of progress.

    Raises:
        DataError: A file is missing or malformed, or a folder has no training split.
        CheckFailedError: A folder has several configurations, and none is named.
    """
    files, sources = [], []
    for path in data:
        if not is_folder(path) and not path.is_file():
            raise DataError(f"{path}: there is no such file or folder")
        if is_collection(path):
            files.append(_pairs_of(path, cache))
            sources.append(files[-1])
        else:
            read = training_files(path) if is_folder(path) else [path]
            files += [_groups_of(file, cache, progress) for file in read]
            sources += read
    return Rows(files, groups.FORMAT, cache=cache, progress=progress, sources=sources)


def _groups_of(path: Path, cache: Path, progress: Progress) -> Path:
    """Return a file with rows in our form: the file itself, or one that is made of it once."""
    if path.suffix != ".parquet":
        first = next(tables.rows(path), None)
        if first is None or isinstance(first[1].get("pos"), list):
            return path

    def convert(file: Writable) -> None:
        with progress.task(f"convert {path.name}", path.stat().st_size) as advance:
            write_rows(file, (row for _, row in read_groups(path, advance)))

    return cached_file(cache / f"rows-{sha256_of(path)[:16]}.jsonl", convert)


def own_corpus(rows: Rows, cache: Path) -> Corpus:
    """Return the distinct positives of the pairs as a corpus, which is written to the cache once."""

    def write(file: Writable) -> None:
        texts = dict.fromkeys(text for row in rows for text in row["pos"])
        write_rows(file, ({"_id": str(number), "text": text} for number, text in enumerate(texts)))

    path = cached_file(cache / f"positives-{rows.fingerprint[:16]}.jsonl", write)
    return Corpus([path], read_documents)


def judged_queries(folders: Iterable[Path]) -> frozenset[str]:
    """Return the queries that must not be trained on: those of all splits but ``train``, normalised.

    Args:
        folders: Test collections in BEIR layout.
    """
    return frozenset(
        normalised(query.text)
        for folder in folders
        for split in splits(folder)
        if split != TRAIN
        for query in read_judged(folder, split)[1]
    )


class Documents:
    """The texts of a corpus by identifier, read from disk one at a time.

    Args:
        corpus: The corpus.
        doc_ids: The identifiers whose texts will be read.
        positives: Groups of texts that :meth:`same_as` will be called with.
        cache: Folder for the index of the corpus.
    """

    def __init__(self, corpus: Corpus, doc_ids: Ids, positives: Iterable[Sequence[str]], cache: Path) -> None:
        requested = set(doc_ids)
        texts = {normalised(text) for group in positives for text in group}
        self._row: dict[str, int] = {}
        self._same: dict[str, list[str]] = defaultdict(list)
        for row, document in enumerate(corpus):
            if document.doc_id in requested:
                self._row[document.doc_id] = row
            text = normalised(document.contents)
            if text in texts:
                self._same[text].append(document.doc_id)
        # Iterating over the corpus has checked its rows: here any object will do.
        self._rows = Rows([_readable(corpus, cache)], RowFormat("document", dict), cache=cache)

    def same_as(self, texts: Sequence[str]) -> set[str]:
        """Return the identifiers of the documents whose text is the same as one of these."""
        return {doc_id for text in texts for doc_id in self._same.get(normalised(text), ())}

    def __getitem__(self, doc_id: str) -> str:
        """Return title and text of a document, as a system reads them."""
        row = self._rows[self._row[doc_id]]
        return Document(doc_id, row.get("title") or "", row["text"] or "").contents


def _readable(corpus: Corpus, cache: Path) -> Path:
    """Return a file of JSON Lines with the rows of a corpus; one of another form is written once."""
    if len(corpus.paths) == 1 and ".jsonl" in corpus.paths[0].suffixes:
        return corpus.paths[0]
    rows = ({"title": document.title, "text": document.text} for document in corpus)
    return cached_file(cache / f"corpus-{corpus.fingerprint[:16]}.jsonl", lambda file: write_rows(file, rows))


def _pairs_of(folder: Path, cache: Path) -> Path:
    """Write the training split of a folder in BEIR layout as pairs, once, and return their file."""
    qrels, queries = read_judged(folder, TRAIN)
    corpus = corpus_of(folder, TRAIN)
    content = hashlib.sha256(f"{corpus.fingerprint}{queries}{qrels}".encode()).hexdigest()

    def write(file: Writable) -> None:
        relevant = {
            query_id: [doc_id for doc_id, relevance in judgements.items() if relevance > 0]
            for query_id, judgements in qrels.items()
        }
        positive_ids = {doc_id for doc_ids in relevant.values() for doc_id in doc_ids}
        texts = {document.doc_id: document.contents for document in corpus if document.doc_id in positive_ids}
        pairs = (
            {"query": query.text, "query_id": query.query_id, "pos": positives}
            for query in queries
            if (positives := [texts[doc_id] for doc_id in relevant[query.query_id] if texts.get(doc_id)])
        )
        empty = sum(not text for text in texts.values())
        if empty:
            logger.warning("%s: %d relevant documents have no text and are left out", folder, empty)
        write_rows(file, pairs)

    return cached_file(cache / f"{slug(folder.resolve().name)}-{TRAIN}-{content[:16]}.jsonl", write)
