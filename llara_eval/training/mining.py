"""Hard negatives for training pairs: documents that a system ranks high and that nobody has judged relevant.

A query of a test collection is never mined for. A document that may be relevant after all is left out: a
known positive by its text, a near-duplicate of a positive by overlap, and a document that scores close to a
positive by margin. :func:`llara_eval.datasets.same_text.normalised` decides when two texts are the same, as
for overlap.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import atomic_write, write_json
from llara_eval.core.paths import data_dir as default_data_dir
from llara_eval.core.paths import home, user_path
from llara_eval.core.protocols import SILENT, Adjustable, Progress, Retriever
from llara_eval.core.provenance import describe
from llara_eval.core.sealed import Hashing
from llara_eval.core.types import Ids, Query
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.files import is_collection
from llara_eval.datasets.folder import corpus_of, read_documents, splits
from llara_eval.datasets.load import locate
from llara_eval.datasets.same_text import normalised, words
from llara_eval.scoring.ranking import rank
from llara_eval.training.data import Rows, write_rows
from llara_eval.training.mined import check_pair
from llara_eval.training.pairs import Documents, judged_queries, own_corpus, read_pairs

logger = logging.getLogger(__name__)

Sample = Literal["top", "random"]

SELF = "self"
"""The name of the corpus of the pairs' own positives."""

Shingles = set[tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mining:
    """The settings by which negatives are chosen.

    Attributes:
        depth: Number of best documents that are candidates for a query.
        skip_top: Number of best documents that are passed over, known positives not counted.
        negatives: Most negatives of a query.
        margin: Share of the best positive's score that a negative must score below, the ``TopK-PercPos`` of
            NV-Retriever (Moreira et al. 2024, arXiv 2407.15831, section 3.2; they find 0.95 best). A query
            without a positive within the depth then gets no negatives. None sets no bound.
        max_overlap: Largest share of word trigrams that a negative may have in common with a positive,
            counted in the shorter of both texts (containment, Broder 1997); 1 leaves out none.
        sample: ``random`` draws from the remaining candidates, as the released LLaRA and FlagEmbedding code
            does; ``top`` takes the best.
        seed: Seed of the draw.
    """

    depth: int = 200
    skip_top: int = 0
    negatives: int = 15
    margin: float | None = None
    max_overlap: float = 0.8
    sample: Sample = "random"
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuse settings that leave no negatives.

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
    """Counts of rows, and of the documents that were ranked for them.

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


def mine(
    retriever: Retriever,
    data: Sequence[Path],
    corpus: str | Path,
    settings: Mining,
    output: Path,
    *,
    exclude: Sequence[str | Path] = (),
    data_dir: Path | None = None,
    offline: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Counts:
    """Write training pairs with hard negatives: documents that a system ranks high and that are no positives.

    A record of how they were made is written beside ``output``, with the suffix ``.json``.

    Args:
        retriever: The system that finds the negatives.
        data: Pairs, see :func:`llara_eval.training.pairs.read_pairs`.
        corpus: The source of the negatives: a data set's name or folder, whose prompts are used if each has
            some; a ``corpus.jsonl``, or ``self`` for all positives.
        settings: The settings by which negatives are chosen.
        output: The ``.jsonl`` file to write, whole or not at all.
        exclude: Data sets whose judged queries must not be trained on, beside those of ``corpus`` and of
            folders in ``data``. Queries of their training splits stay.
        data_dir: The folder of named data sets; None takes ``LLARA_EVAL_DATA``.
        offline: Whether downloads are forbidden.
        overwrite: Whether an earlier output may be replaced; a file that changed since is none.
        progress: The display of progress.

    Returns:
        Counts of the rows, and of the documents that were ranked for them.

    Raises:
        UsageError: ``output`` does not end in ``.jsonl``, exists and was not made here, or is one of the
            inputs; or a data set to exclude has no judgements.
        DataError: A data set is missing, a file is malformed, or every query is excluded; or a set of prompts
            has none for the data set that is the corpus.
        CheckFailedError: A set of prompts has no default, and the corpus is no data set.
    """
    output = user_path(output)
    record, replaced = check_pair(output, data, overwrite=overwrite)
    cache = home() / "training"
    find = partial(locate, data_dir=data_dir or default_data_dir(), offline=offline)
    rows = read_pairs(data, cache=cache, progress=progress)
    source, collections = _corpus(corpus, rows, cache, find)
    collections += [_with_judgements(name, find(str(name))) for name in exclude]
    forbidden = judged_queries([*collections, *(path for path in data if is_collection(path))])
    if not forbidden:
        logger.warning("no query is left out: name the data sets of the evaluation with --exclude")
    miner = _Miner(rows, forbidden, settings)
    if isinstance(retriever, Adjustable) and (dataset := _name_of(corpus)) is not None:
        retriever = retriever.on(dataset, None)
    miner.search(retriever, source, cache, progress)
    with progress.task("choose negatives", len(rows)) as advance, atomic_write(output) as file:
        hashing = Hashing(file)
        write_rows(hashing, miner.rows_with_negatives(advance))
        # The record comes first: a process that is killed here leaves a pair that may be replaced.
        facts = _facts(miner, retriever, rows, source)
        write_json(record, {**facts, "sha256": hashing.content.hexdigest(), "replaced": replaced})
    return miner.counts


def _facts(miner: "_Miner", retriever: Retriever, rows: Rows, source: Corpus) -> dict[str, Any]:
    """Return how rows were mined."""
    return {
        "settings": asdict(miner.settings),
        "counts": asdict(miner.counts),
        "system": retriever.name,
        "system_settings": dict(retriever.settings),
        "data": rows.fingerprint,
        "corpus": source.fingerprint,
        "provenance": describe(),
    }


class _Miner:
    """Chooses the negatives of each row. Rows of one query share their positives.

    Args:
        rows: Training pairs.
        forbidden: Normalised queries that must not be trained on.
        settings: The settings by which negatives are chosen.

    Raises:
        DataError: Every query is forbidden.
    """

    def __init__(self, rows: Rows, forbidden: frozenset[str], settings: Mining) -> None:
        self.settings = settings
        self.counts = Counts(rows=len(rows))
        self._rows = rows
        self._queries: dict[str, Query] = {}  # by normalised text
        self._positives: dict[str, list[str]] = defaultdict(list)  # by normalised text of the query
        for row in rows:
            text = normalised(row["query"])
            if text not in forbidden:
                self._queries.setdefault(text, Query(str(len(self._queries)), row["query"]))
                self._positives[text] += row["pos"]
        if not self._queries:
            raise DataError("every query of these pairs belongs to a test collection; nothing may be mined")

    def search(self, retriever: Retriever, corpus: Corpus, cache: Path, progress: Progress) -> None:
        """Rank the documents of the corpus for each query."""
        depth = self.settings.depth
        retriever.index(corpus, progress)
        run = rank(retriever.search(list(self._queries.values()), depth, progress), depth=depth)
        self._ranked = {query_id: (doc_ids, scores) for query_id, doc_ids, scores in run}
        self._documents = Documents(corpus, run.doc_ids, self._positives.values(), cache)

    def rows_with_negatives(self, advance: Callable[[], None]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows that may be trained on with ``neg`` and ``neg_ids``, which may be empty.

        A teacher's scores are dropped, since they belong to other negatives.
        """
        for number, row in enumerate(self._rows):
            advance()
            text = normalised(row["query"])
            if text not in self._queries:
                self.counts.forbidden += 1
                continue
            candidates = self._candidates(text)
            if self.settings.sample == "random":
                candidates = np.random.default_rng([self.settings.seed, number]).permutation(candidates)
            negatives = self._negatives(candidates, self._positives[text])
            self.counts.written += 1
            self.counts.without += not negatives
            self.counts.negatives += len(negatives)
            fields = {name: value for name, value in row.items() if not name.endswith("_scores")}
            yield {**fields, "neg": list(negatives.values()), "neg_ids": list(negatives)}

    def _candidates(self, text: str) -> Ids:
        """Return the ranking of a query without positives, its top, and documents that score too high."""
        doc_ids, scores = self._ranked[self._queries[text].query_id]
        positive = np.isin(doc_ids, list(self._documents.same_as(self._positives[text])))
        self.counts.positives += int(positive.sum())
        best = scores[positive].max(initial=-np.inf)
        doc_ids, scores = doc_ids[~positive], scores[~positive]
        skip_top, margin = self.settings.skip_top, self.settings.margin
        self.counts.skipped += len(doc_ids[:skip_top])
        doc_ids, scores = doc_ids[skip_top:], scores[skip_top:]
        if margin is not None:
            # A share of the score's magnitude is subtracted: the bound of a score below zero is lower, too.
            below = scores < best - (1 - margin) * abs(best)
            self.counts.above_margin += int((~below).sum())
            doc_ids = doc_ids[below]
        return doc_ids

    def _negatives(self, candidates: Ids, positives: Sequence[str]) -> dict[str, str]:
        """Return the first distinct candidates that no positive overlaps too much, by identifier."""
        negatives: dict[str, str] = {}
        texts = {""}
        positive_shingles = [_shingles(text) for text in positives]
        for doc_id in candidates:
            if len(negatives) == self.settings.negatives:
                break
            text = self._documents[doc_id]
            shingles = _shingles(text)
            if any(_containment(shingles, other) > self.settings.max_overlap for other in positive_shingles):
                self.counts.overlapping += 1
            elif normalised(text) not in texts:
                texts.add(normalised(text))
                negatives[doc_id] = text
        return negatives


def _corpus(
    corpus: str | Path, rows: Rows, cache: Path, find: Callable[[str], Path]
) -> tuple[Corpus, list[Path]]:
    """Return the corpus, and the test collection that it belongs to, if any."""
    if corpus == SELF:
        return own_corpus(rows, cache), []
    path = user_path(corpus)
    if path.is_file():
        return Corpus([path], read_documents), [path.parent]
    folder = find(str(corpus))
    return corpus_of(folder), [folder]


def _name_of(corpus: str | Path) -> str | None:
    """Return the name of the data set that is the corpus, by which prompts are chosen; None for others."""
    path = user_path(corpus)
    if corpus == SELF or path.is_file():
        return None
    return path.resolve().name if path.is_dir() else str(corpus)


def _with_judgements(name: str | Path, folder: Path) -> Path:
    """Return the folder of a data set to exclude; raise a UsageError if it has no judgements."""
    if not splits(folder):
        raise UsageError(f"--exclude {name}: {folder} has no judgements whose queries to leave out")
    return folder


def _shingles(text: str) -> Shingles:
    """Return the word trigrams of a text, or all its words as one if there are fewer."""
    sequence = words(text)
    return set(zip(sequence, sequence[1:], sequence[2:], strict=False)) or {tuple(sequence)}


def _containment(one: Shingles, other: Shingles) -> float:
    """Return the part of the smaller set that the other set holds (Broder 1997)."""
    return len(one & other) / min(len(one), len(other))
