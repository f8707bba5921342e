"""Training pairs: how they are read, which queries must not be among them, and the texts of their corpus."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llara_eval.core.files import atomic_write, sha256_of
from llara_eval.core.lines import find_file
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.core.types import Document, Ids
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.folder import read_judged, splits
from llara_eval.datasets.same_text import normalised
from llara_eval.training import groups
from llara_eval.training.data import RowFormat, Rows

TRAIN = "train"
"""The split whose queries may be trained on."""

_CHECKED_ELSEWHERE = RowFormat("document", lambda row: None)
"""Rows of a corpus, which its own reader has checked."""


def read_pairs(data: Sequence[Path], *, cache: Path, progress: Progress = SILENT) -> Rows:
    """Read training pairs.

    Args:
        data: JSON Lines of ``query`` and ``pos``, or folders in BEIR layout, of which the training split is
            taken.
        cache: Folder for indexes, and for the pairs made of folders.
        progress: Where to show progress.

    Raises:
        DataError: A file is malformed, or a folder has no training split.
    """
    files = [_pairs_of(path, cache) if path.is_dir() else path for path in data]
    return Rows(files, groups.FORMAT, cache=cache, progress=progress)


def own_corpus(rows: Rows, cache: Path) -> Corpus:
    """Return the distinct positives of the pairs themselves as a corpus."""
    path = cache / f"positives-{rows.fingerprint[:16]}.jsonl"
    if not path.is_file():
        texts = dict.fromkeys(text for row in rows for text in row["pos"])
        write_rows(path, ({"_id": str(number), "text": text} for number, text in enumerate(texts)))
    return Corpus(path)


def judged_queries(folders: Iterable[Path]) -> frozenset[str]:
    """Return what may not be trained on: the normalised queries of all splits but ``train``.

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
        wanted = set(doc_ids)
        texts = {normalised(text) for group in positives for text in group}
        self._row: dict[str, int] = {}
        self._same: dict[str, list[str]] = defaultdict(list)
        for row, document in enumerate(corpus):
            if document.doc_id in wanted:
                self._row[document.doc_id] = row
            text = normalised(document.contents)
            if text in texts:
                self._same[text].append(document.doc_id)
        self._rows = Rows([corpus.path], _CHECKED_ELSEWHERE, cache=cache)

    def same_as(self, texts: Sequence[str]) -> set[str]:
        """Return the identifiers of the documents whose text is the same as one of these."""
        return {doc_id for text in texts for doc_id in self._same.get(normalised(text), ())}

    def __getitem__(self, doc_id: str) -> str:
        """Return what a system reads of a document."""
        row = self._rows[self._row[doc_id]]
        return Document(doc_id, row.get("title") or "", row["text"] or "").contents


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON Lines, whole or not at all."""
    with atomic_write(path) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _pairs_of(folder: Path, cache: Path) -> Path:
    """Write the training split of a folder in BEIR layout as pairs, once, and return their file."""
    qrels, queries = read_judged(folder, TRAIN)
    corpus = Corpus(find_file(folder, "corpus.jsonl"))
    content = hashlib.sha256(f"{sha256_of(corpus.path)}{queries}{qrels}".encode()).hexdigest()
    path = cache / f"{folder.resolve().name}-{TRAIN}-{content[:16]}.jsonl"
    if not path.is_file():
        relevant = {
            query_id: [doc_id for doc_id, grade in grades.items() if grade > 0]
            for query_id, grades in qrels.items()
        }
        wanted = {doc_id for doc_ids in relevant.values() for doc_id in doc_ids}
        texts = {document.doc_id: document.contents for document in corpus if document.doc_id in wanted}
        pairs = (
            {"query": query.text, "query_id": query.query_id, "pos": positives}
            for query in queries
            if (positives := [texts[doc_id] for doc_id in relevant[query.query_id] if doc_id in texts])
        )
        write_rows(path, pairs)
    return path
