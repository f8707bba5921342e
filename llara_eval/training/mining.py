"""Hard negatives for training pairs: what a system ranks high and nobody has called relevant.

A query of a test collection is never mined for. A document that may be relevant after all is left out: a
known positive by its text, a near-duplicate of one by overlap, and what scores close to one by margin. When
two texts are the same is decided by :func:`llara_eval.datasets.same_text.normalised`, as for overlap.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.files import refuse_inputs, write_json
from llara_eval.core.lines import find_file
from llara_eval.core.paths import data_dir as default_data_dir
from llara_eval.core.paths import home
from llara_eval.core.protocols import SILENT, Progress, Retriever
from llara_eval.core.provenance import describe
from llara_eval.core.types import Ids, Query
from llara_eval.datasets.corpus import Corpus
from llara_eval.datasets.folder import splits
from llara_eval.datasets.load import locate
from llara_eval.datasets.same_text import normalised, words
from llara_eval.scoring.ranking import rank
from llara_eval.training.data import Rows, write_rows
from llara_eval.training.pairs import Documents, judged_queries, own_corpus, read_pairs

logger = logging.getLogger(__name__)

Sample = Literal["top", "random"]

SELF = "self"
"""Stands for the pairs' own positives where a corpus is named."""


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

    ``llara-eval mine`` makes this call. Beside ``output`` a file of the same name that ends in ``.json`` says
    how it was made.

    Args:
        retriever: The system that finds the negatives.
        data: Pairs: JSON Lines of ``query`` and ``pos``, or folders in BEIR layout (their training split).
        corpus: Where negatives come from: a data set's name or folder, a ``corpus.jsonl``, or ``self`` for
            all positives.
        settings: How negatives are chosen.
        output: The ``.jsonl`` file to write, whole or not at all.
        exclude: Data sets whose judged queries must not be trained on, beside those of ``corpus`` and of
            folders in ``data``. Queries of their training splits stay.
        data_dir: Where named data sets live; None takes ``LLARA_EVAL_DATA``.
        offline: Whether downloads are forbidden.
        overwrite: Whether an earlier output may be replaced.
        progress: Where to show progress.

    Returns:
        What became of the rows, and of the documents found for them.

    Raises:
        UsageError: ``output`` does not end in ``.jsonl``, exists, or is one of the inputs; or a data set to
            exclude has no judgements.
        DataError: A data set is missing, a file is malformed, or every query is excluded.
    """
    record = _record_of(output, data, overwrite=overwrite)
    cache = home() / "training"
    find = partial(locate, data_dir=data_dir or default_data_dir(), offline=offline)
    rows = read_pairs(data, cache=cache, progress=progress)
    source, collections = _corpus(corpus, rows, cache, find)
    collections += [_with_judgements(name, find(str(name))) for name in exclude]
    forbidden = judged_queries([*collections, *(path for path in data if path.is_dir())])
    counts = add_negatives(
        retriever, rows, source, settings, output, forbidden=forbidden, cache=cache, progress=progress
    )
    write_json(
        record,
        {
            "settings": asdict(settings),
            "counts": asdict(counts),
            "system": retriever.name,
            "system_settings": dict(retriever.settings),
            "data": rows.fingerprint,
            "corpus": source.fingerprint,
            "provenance": describe(),
        },
    )
    return counts


def add_negatives(
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
        retriever: The system that finds the negatives.
        rows: Training pairs; see :func:`llara_eval.training.pairs.read_pairs`.
        corpus: Where negatives come from.
        settings: How they are chosen.
        output: The JSON Lines file to write, whole or not at all.
        forbidden: See :func:`llara_eval.training.pairs.judged_queries`.
        cache: Folder for the index of the corpus.
        progress: Where to show progress.

    Raises:
        DataError: The corpus is malformed, or every query is forbidden.
    """
    if not forbidden:
        logger.warning("no query is left out: name the sets this will be evaluated on with --exclude")
    counts = Counts(rows=len(rows))
    queries, positives = _queries(rows, forbidden)
    retriever.index(corpus, progress)
    run = rank(retriever.search(list(queries.values()), settings.depth, progress), depth=settings.depth)
    ranked = {query_id: (doc_ids, scores) for query_id, doc_ids, scores in run}
    documents = Documents(corpus, run.doc_ids, positives.values(), cache)

    def written() -> Iterable[Mapping[str, Any]]:
        with progress.task("choose negatives", len(rows)) as advance:
            for number, row in enumerate(rows):
                advance()
                text = normalised(row["query"])
                if text not in queries:
                    counts.forbidden += 1
                    continue
                known = documents.same_as(positives[text])
                left = _candidates(*ranked[queries[text].query_id], known, settings, counts)
                if settings.sample == "random":
                    left = np.random.default_rng([settings.seed, number]).permutation(left)
                chosen = _choose(left, documents, positives[text], settings, counts)
                counts.written += 1
                counts.without += not chosen
                counts.negatives += len(chosen)
                kept = {name: value for name, value in row.items() if not name.endswith("_scores")}
                yield {**kept, "neg": list(chosen.values()), "neg_ids": list(chosen)}

    write_rows(output, written())
    return counts


def _record_of(output: Path, data: Sequence[Path], *, overwrite: bool) -> Path:
    """Return the file that shall say how the output was made."""
    record = output.with_suffix(".json")
    if output.suffix != ".jsonl" or ((output.exists() or record.exists()) and not overwrite):
        raise UsageError(
            f"{output} must end in .jsonl, and neither it nor {record.name} exist (or --overwrite)"
        )
    for path in (output, record):
        refuse_inputs(path, data)
    return record


def _corpus(
    corpus: str | Path, rows: Rows, cache: Path, find: Callable[[str], Path]
) -> tuple[Corpus, list[Path]]:
    """Return the corpus, and the test collection it belongs to, if any."""
    if corpus == SELF:
        return own_corpus(rows, cache), []
    path = Path(corpus).expanduser()
    if path.is_file():
        return Corpus(path), [path.parent]
    folder = find(str(corpus))
    return Corpus(find_file(folder, "corpus.jsonl")), [folder]


def _with_judgements(name: str | Path, folder: Path) -> Path:
    """Return the folder if excluding it leaves out any query."""
    if not splits(folder):
        raise UsageError(
            f"--exclude {name}: {folder} has no judgements (qrels/*.tsv) whose queries to leave out"
        )
    return folder


def _queries(rows: Rows, forbidden: frozenset[str]) -> tuple[dict[str, Query], dict[str, list[str]]]:
    """Return each different query that may be trained on, and all its positives, by its normalised text."""
    queries: dict[str, Query] = {}
    positives: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        text = normalised(row["query"])
        if text not in forbidden:
            queries.setdefault(text, Query(str(len(queries)), row["query"]))
            positives[text] += row["pos"]
    if not queries:
        raise DataError("every query of these pairs belongs to a test collection; nothing may be mined")
    return queries, positives


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
    left: Ids, documents: Documents, positives: Sequence[str], settings: Mining, counts: Counts
) -> dict[str, str]:
    """Return the first negatives of a list that overlap too much with no positive, by identifier."""
    chosen: dict[str, str] = {}
    texts = {""}
    positive_shingles = [_shingles(text) for text in positives]
    for doc_id in left:
        if len(chosen) == settings.negatives:
            break
        text = documents[doc_id]
        shingles = _shingles(text)
        if any(_containment(shingles, other) > settings.max_overlap for other in positive_shingles):
            counts.overlapping += 1
        elif normalised(text) not in texts:
            texts.add(normalised(text))
            chosen[doc_id] = text
    return chosen


def _shingles(text: str) -> set[tuple[str, ...]]:
    """Return the word trigrams of a text, or all its words as one if there are fewer."""
    sequence = words(text)
    return set(zip(sequence, sequence[1:], sequence[2:], strict=False)) or {tuple(sequence)}


def _containment(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    """Return the part of the smaller set that the other holds."""
    return len(one & other) / min(len(one), len(other))
