"""Hard negatives for training pairs: what a system ranks high and nobody has called relevant.

Mining never sees a query of a test collection, and a document that may be relevant after all is left out:
known positives by their text, near-duplicates of them by overlap, and what scores close to them by margin.
"""

import hashlib
import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import atomic_write, sha256_of
from llara_eval.core.lines import find_file
from llara_eval.core.protocols import SILENT, Progress, Retriever
from llara_eval.core.types import Document, Ids, Query
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.folder import read_judged, splits
from llara_eval.scoring.ranking import rank
from llara_eval.training import groups
from llara_eval.training.data import Rows

logger = logging.getLogger(__name__)

Sample = Literal["top", "random"]

TRAIN = "train"
"""The split whose queries may be trained on."""


_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mining:
    """How negatives are chosen.

    Attributes:
        depth: Documents looked at for a query.
        skip_top: The best documents passed over, known positives not counted.
        negatives: The most negatives of a query.
        margin: Only documents that score below this share of the best positive's score, the
            ``TopK-PercPos`` of NV-Retriever (Moreira et al. 2024, arXiv 2407.15831, section 3.2; they find
            0.95 best). A query none of whose positives is within the depth gets no negatives then.
        max_overlap: Documents that share more than this part of their word trigrams with a positive (of
            the shorter of both: containment, Broder 1997) are left out; 1 leaves out none.
        sample: ``random`` draws from what is left, as the released LLaRA and FlagEmbedding code does;
            ``top`` takes the best.
        seed: Of the draw.
    """

    depth: int = 200
    skip_top: int = 0
    negatives: int = 15
    margin: float | None = None
    max_overlap: float = 0.8
    sample: Sample = "random"
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuse what leaves nothing.

        Raises:
            UsageError: A value is out of range.
        """
        if self.sample not in get_args(Sample):
            raise UsageError(f"sample {self.sample!r} is not one of {', '.join(get_args(Sample))}")
        if self.negatives < 1 or not 0 <= self.skip_top < self.depth:
            raise UsageError(
                f"negatives must be at least 1 and skip-top below the depth, found {self.negatives}, "
                f"{self.skip_top} of {self.depth}"
            )
        if not 0 <= self.max_overlap <= 1:
            raise UsageError(f"max-overlap must be from 0 to 1, found {self.max_overlap}")
        if self.margin is not None and not 0 < self.margin <= 1:
            raise UsageError(f"margin must be above 0 and at most 1, found {self.margin}")
        if self.seed < 0:
            raise UsageError(f"seed must not be negative, found {self.seed}")


@dataclass(slots=True)
class Counts:
    """What became of rows and of the documents found for them.

    Attributes:
        rows: Rows read.
        forbidden: Rows left out because their query belongs to a test collection.
        written: Rows written.
        without: Rows written without any negative.
        positives: Documents left out as known positives.
        skipped: Documents passed over at the top.
        above_margin: Documents left out by the margin.
        overlapping: Documents left out by overlap, of those that were drawn.
        negatives: Negatives written.
    """

    rows: int = 0
    forbidden: int = 0
    written: int = 0
    without: int = 0
    positives: int = 0
    skipped: int = 0
    above_margin: int = 0
    overlapping: int = 0
    negatives: int = 0


def read_pairs(data: Sequence[Path], *, cache: Path, progress: Progress = SILENT) -> Rows:
    """Read training pairs: JSONL of ``query`` and ``pos``, or the training split of a BEIR folder.

    Raises:
        DataError: A file is malformed, or a folder has no training split.
    """
    files = [_pairs_of(path, cache) if path.is_dir() else path for path in data]
    return Rows(files, groups.check_row, cache=cache, progress=progress)


def own_corpus(rows: Rows, cache: Path) -> Corpus:
    """Return the distinct positives of the pairs themselves as a corpus."""
    path = cache / f"positives-{rows.fingerprint[:16]}.jsonl"
    if not path.is_file():
        texts = dict.fromkeys(text for row in rows for text in row["pos"])
        _write(path, ({"_id": str(number), "text": text} for number, text in enumerate(texts)))
    return Corpus(path)


def judged_queries(folders: Iterable[Path]) -> frozenset[str]:
    """Return what may not be trained on: the queries of all splits but ``train``, as :func:`mine` wants them.

    Args:
        folders: Test collections in BEIR layout.
    """
    return frozenset(
        _key(query.text)
        for folder in folders
        for split in splits(folder)
        if split != TRAIN
        for query in read_judged(folder, split)[1]
    )


def mine(
    retriever: Retriever,
    rows: Rows,
    corpus: Corpus,
    settings: Mining,
    output: Path,
    *,
    forbidden: frozenset[str] = frozenset(),
    cache: Path,
    progress: Progress = SILENT,
) -> Counts:
    """Search every query, choose negatives, and write the rows with them (``neg``, ``neg_ids``).

    Rows of one query share their positives. Scores of a teacher are not kept, since they are of other
    negatives; a row for which nothing is left has an empty ``neg``.

    Args:
        retriever: Finds the negatives.
        rows: Training pairs; see :func:`read_pairs`.
        corpus: Where negatives come from.
        settings: How they are chosen.
        output: The JSONL file to write, whole or not at all.
        forbidden: See :func:`judged_queries`.
        cache: Where the places of the corpus' documents are kept.
        progress: Where to show progress.

    Raises:
        DataError: The corpus is malformed, or no row may be trained on.
    """
    if not forbidden:
        logger.warning("no query is left out: name the sets this will be evaluated on with --exclude")
    counts = Counts(rows=len(rows))
    queries, positives = _asked(rows, forbidden)
    retriever.index(corpus, progress)
    run = rank(retriever.search(list(queries.values()), settings.depth, progress), depth=settings.depth)
    found = {query_id: (doc_ids, scores) for query_id, doc_ids, scores in run}
    documents = _Documents(corpus, run.doc_ids, positives.values(), cache)

    def written() -> Iterable[Mapping[str, Any]]:
        with progress.task("choose negatives", len(rows)) as advance:
            for number, row in enumerate(rows):
                advance()
                key = _key(row["query"])
                if key not in queries:
                    counts.forbidden += 1
                    continue
                known = documents.same_as(positives[key])
                left = _candidates(*found[queries[key].query_id], known, settings, counts)
                if settings.sample == "random":
                    left = np.random.default_rng([settings.seed, number]).permutation(left)
                chosen = _choose(left, documents, positives[key], settings, counts)
                counts.written += 1
                counts.without += not chosen
                counts.negatives += len(chosen)
                kept = {name: value for name, value in row.items() if not name.endswith("_scores")}
                yield {**kept, "neg": list(chosen.values()), "neg_ids": list(chosen)}

    _write(output, written())
    return counts


def _asked(rows: Rows, forbidden: frozenset[str]) -> tuple[dict[str, Query], dict[str, list[str]]]:
    """Return each different query that may be trained on, and all its positives, by its words."""
    queries: dict[str, Query] = {}
    positives: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        key = _key(row["query"])
        if key not in forbidden:
            queries.setdefault(key, Query(str(len(queries)), row["query"]))
            positives[key] += row["pos"]
    if not queries:
        raise DataError("every query of these pairs belongs to a test collection; nothing may be mined")
    return queries, positives


class _Documents:
    """The texts of a corpus by identifier, read from disk one at a time.

    Args:
        corpus: The corpus.
        found: Identifiers that will be asked for.
        positives: Groups of texts that :meth:`same_as` will be asked about.
        cache: Where the places of documents are kept.
    """

    def __init__(self, corpus: Corpus, found: Ids, positives: Iterable[Sequence[str]], cache: Path) -> None:
        wanted = set(found)
        texts = {_key(text) for group in positives for text in group}
        self._place: dict[str, int] = {}
        self._named: dict[str, list[str]] = defaultdict(list)
        for place, document in enumerate(corpus):
            if document.doc_id in wanted:
                self._place[document.doc_id] = place
            key = _key(document.contents)
            if key in texts:
                self._named[key].append(document.doc_id)
        self._rows = Rows([corpus.path], _any_row, cache=cache)

    def same_as(self, texts: Sequence[str]) -> set[str]:
        """Return the documents whose text is one of these."""
        return {doc_id for text in texts for doc_id in self._named.get(_key(text), ())}

    def __getitem__(self, doc_id: str) -> str:
        """Return what a system reads of a document."""
        row = self._rows[self._place[doc_id]]
        return Document(doc_id, row.get("title") or "", row["text"] or "").contents


def _candidates(
    doc_ids: Ids, scores: NDArray[np.float32], known: set[str], settings: Mining, counts: Counts
) -> Ids:
    """Return what is left of a ranking when positives, its top, and what scores too high are taken out."""
    positive = np.isin(doc_ids, list(known))
    counts.positives += int(positive.sum())
    best = scores[positive].max(initial=-np.inf)
    doc_ids, scores = doc_ids[~positive], scores[~positive]
    counts.skipped += len(doc_ids[: settings.skip_top])
    doc_ids, scores = doc_ids[settings.skip_top :], scores[settings.skip_top :]
    if settings.margin is not None:
        # For a score below zero, a share of its size is taken off: the bound stays under the positive.
        below = scores < best - (1 - settings.margin) * abs(best)
        counts.above_margin += int((~below).sum())
        doc_ids = doc_ids[below]
    return doc_ids


def _choose(
    left: Ids, documents: _Documents, positives: Sequence[str], settings: Mining, counts: Counts
) -> dict[str, str]:
    """Return the first negatives of a list that overlap too much with no positive, by identifier."""
    chosen: dict[str, str] = {}
    shingles = [_shingles(text) for text in positives]
    for doc_id in left:
        if len(chosen) == settings.negatives:
            break
        text = documents[doc_id]
        own = _shingles(text)
        if any(_containment(own, other) > settings.max_overlap for other in shingles):
            counts.overlapping += 1
        elif text and text not in chosen.values():
            chosen[doc_id] = text
    return chosen


def _shingles(text: str) -> set[tuple[str, ...]]:
    """Return the word trigrams of a text, or all its words as one if there are fewer."""
    words = _WORD.findall(text.casefold())
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}


def _containment(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    """Return the part of the smaller set that the other holds."""
    return len(one & other) / min(len(one), len(other))


def _key(text: str) -> str:
    """Return what two texts that count as the same have in common: words, whatever case and space."""
    return " ".join(text.casefold().split())


def _any_row(row: Mapping[str, Any]) -> str | None:
    """Find nothing wrong: the corpus has been checked by who reads it."""
    return None


def _pairs_of(folder: Path, cache: Path) -> Path:
    """Write the training split of a folder in BEIR layout as pairs, once."""
    qrels, queries = read_judged(folder, TRAIN)
    corpus = Corpus(find_file(folder, "corpus.jsonl"))
    content = hashlib.sha256(f"{sha256_of(corpus.path)}{queries}{qrels}".encode()).hexdigest()
    path = cache / f"{folder.resolve().name}-{TRAIN}-{content[:16]}.jsonl"
    if not path.is_file():
        relevant = {
            query: [doc for doc, grade in grades.items() if grade > 0] for query, grades in qrels.items()
        }
        wanted = {doc_id for doc_ids in relevant.values() for doc_id in doc_ids}
        texts = {document.doc_id: document.contents for document in corpus if document.doc_id in wanted}
        pairs = (
            {"query": query.text, "query_id": query.query_id, "pos": positives}
            for query in queries
            if (positives := [texts[doc_id] for doc_id in relevant[query.query_id] if doc_id in texts])
        )
        _write(path, pairs)
    return path


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with atomic_write(path) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
