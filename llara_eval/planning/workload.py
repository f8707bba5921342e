"""Data sets → the number of tokens that a model has to read.

Tokens are counted on a sample where a data set is at hand and the checkpoint has its tokenizer, and taken
from :mod:`llara_eval.planning.corpus_sizes` otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.protocols import SILENT, Advance, Progress
from llara_eval.datasets.corpus import REPORT_EVERY
from llara_eval.datasets.dataset import UncheckedDataset
from llara_eval.datasets.load import find, locate
from llara_eval.encoding.templates import Side, Templates
from llara_eval.planning import corpus_sizes
from llara_eval.planning.corpus_sizes import TEMPLATE_TOKENS, TOKENS_PER_WORD, CorpusSize

SAMPLE = 1_000
"""Number of documents, and of queries, of a data set whose tokens are counted."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads texts: with which templates and which tokenizer.

    Attributes:
        templates: Its templates; only their lengths count where there is no tokenizer.
        tokenizer: Its tokenizer; None where the checkpoint has none.
    """

    templates: Templates
    tokenizer: Any = None

    def count(self, texts: Sequence[str], side: Side) -> NDArray[np.float64]:
        """Return the (n,) numbers of tokens of n texts, template included."""
        template = self.templates.of(side)
        return np.array([len(ids) for ids in template.token_ids(self.tokenizer, texts)], dtype=np.float64)

    def own_tokens(self, side: Side) -> int:
        """Return the number of tokens of the template; that of LLaRA's where there is no tokenizer."""
        if self.tokenizer is None:
            return TEMPLATE_TOKENS
        return self.templates.of(side).own_tokens(self.tokenizer)

    def with_template(self, tokens: NDArray[np.float64], side: Side) -> NDArray[np.float64]:
        """Return the (n,) numbers of tokens of n sequences from those of their texts."""
        return np.minimum(tokens + self.own_tokens(side), self.templates.of(side).max_length)


class Workload(NamedTuple):
    """The documents and queries that are to be encoded.

    Attributes:
        name: Name of the corpus or data set.
        documents: Number of documents.
        queries: Number of judged queries.
        document_tokens: (n,) tokens of documents that stand for all of them, template included.
        query_tokens: (m,) tokens of queries that stand for all of them.
        tokens_from: Whether the tokens were counted on a sample or are the published ones.
    """

    name: str
    documents: int
    queries: int
    document_tokens: NDArray[np.float64]
    query_tokens: NDArray[np.float64]
    tokens_from: Literal["sample", "published"]


def workloads(
    names: Iterable[str],
    reading: Reading,
    *,
    data_dir: Path,
    split: str | None = None,
    progress: Progress = SILENT,
) -> list[Workload]:
    """Return the documents and queries to encode, by corpus.

    Args:
        names: Names of corpora and data sets, groups of them (``beir-13``), folders in BEIR layout, or
            ``demo``.
        reading: How the model reads texts.
        data_dir: Where named data sets are looked for; nothing is downloaded.
        split: The split whose judged queries count; the usual one by default.
        progress: Shows how many documents have been read.

    Raises:
        DataError: A data set is neither known nor at hand, or malformed, or its tokens cannot be counted.
    """
    members = dict.fromkeys(member for name in names for member in corpus_sizes.expand(name))
    name_of_corpus = {size.name if (size := corpus_sizes.find(name)) else name: name for name in members}
    return [_workload(name, reading, data_dir, split, progress) for name in name_of_corpus.values()]


def _workload(name: str, reading: Reading, data_dir: Path, split: str | None, progress: Progress) -> Workload:
    size = corpus_sizes.find(name)
    parts = corpus_sizes.data_sets(name)
    try:
        for part in parts:  # CQADupStack is at hand if all its forums are
            locate(part, data_dir=data_dir, offline=True)
    except DataError as error:
        if size is None:
            known = ", ".join(row.removeprefix("beir/") for row in corpus_sizes.load())
            raise DataError(f"{error}. Without their texts, these can be planned: {known}") from error
        return _published(size, reading)
    if reading.tokenizer is not None:
        datasets = [find(part, data_dir=data_dir, split=split, offline=True) for part in parts]
        return _sampled(size, datasets, reading, progress)
    if size is not None:
        return _published(size, reading)
    raise DataError(
        f"the tokens of {name} cannot be counted: the checkpoint has no tokenizer; put its files beside its "
        "config.json"
    )


def _published(size: CorpusSize, reading: Reading) -> Workload:
    query = np.array([size.query_words * TOKENS_PER_WORD])
    return Workload(
        size.name,
        size.documents,
        size.queries,
        reading.with_template(size.lengths(), "document"),
        reading.with_template(query, "query"),
        "published",
    )


def _sampled(
    size: CorpusSize | None, datasets: Sequence[UncheckedDataset], reading: Reading, progress: Progress
) -> Workload:
    known = datasets[0].known
    name = size.name if size else known.name if known else datasets[0].other_name
    queries = [query.text for part in datasets for query in part.queries]
    with progress.task(f"sample {name}", size and size.documents) as advance:
        contents = (document.contents for part in datasets for document in part.corpus)
        documents, texts = _draw(contents, advance)
    if not texts:
        raise DataError(f"{datasets[0].corpus.origin}: the corpus is empty")
    return Workload(
        name,
        documents,
        len(queries),
        reading.count(texts, "document"),
        reading.count(_draw(queries)[1], "query"),
        "sample",
    )


def _draw(texts: Iterable[str], advance: Advance | None = None) -> tuple[int, list[str]]:
    """Count texts and draw ``SAMPLE`` of them, each equally likely.

    Vitter, "Random sampling with a reservoir", ACM TOMS 1985, algorithm R.
    """
    random, count, drawn = Random(0), 0, list[str]()
    for count, text in enumerate(texts, 1):
        index = len(drawn) if count <= SAMPLE else random.randrange(count)
        if index < SAMPLE:
            drawn[index : index + 1] = [text]
        if advance is not None and not count % REPORT_EVERY:
            advance(REPORT_EVERY)
    return count, drawn
