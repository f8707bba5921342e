"""Data sets → the number of tokens that a model has to read.

If a data set is on disk and the checkpoint has a tokenizer, tokens are counted on a sample; otherwise they
are taken from :mod:`llara_eval.planning.corpus_sizes`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.errors import DataError
from llara_eval.core.protocols import SILENT, Advance, Progress
from llara_eval.datasets import known
from llara_eval.datasets.corpus import REPORT_EVERY
from llara_eval.datasets.dataset import UncheckedDataset
from llara_eval.datasets.load import find, locate
from llara_eval.encoding.templates import Side, Templates
from llara_eval.planning import corpus_sizes
from llara_eval.planning.corpus_sizes import TEMPLATE_TOKENS, TOKENS_PER_WORD, CorpusSize

SAMPLE = 1_000
"""Number of documents, and of queries, in the sample of a data set."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The templates and the tokenizer of a model.

    Attributes:
        templates: Templates; without a tokenizer, only their maximum lengths are used.
        tokenizer: Tokenizer; None if the checkpoint has none.
        templates_of: Returns the templates for a data set, given its name and its limit of a document in
            tokens; None where all data sets have the same.
    """

    templates: Templates
    tokenizer: Any = None
    templates_of: Callable[[str, int | None], Templates] | None = None

    def on(self, dataset: str) -> "Reading":
        """Return this reading with the templates for a data set."""
        if self.templates_of is None:
            return self
        facts = known.find(dataset)
        name = facts.name if facts else Path(dataset).name
        return replace(self, templates=self.templates_of(name, facts.text_length if facts else None))

    def count(self, texts: Sequence[str], side: Side) -> NDArray[np.float64]:
        """Return the (n,) numbers of tokens of n texts, template included."""
        template = self.templates.of(side)
        return np.array([len(ids) for ids in template.token_ids(self.tokenizer, texts)], dtype=np.float64)

    def with_template(self, tokens: NDArray[np.float64], side: Side) -> NDArray[np.float64]:
        """Return the (n,) numbers of tokens of n texts, template included, from those without template.

        Without a tokenizer, the template is assumed to have as many tokens as that of LLaRA.
        """
        template = self.templates.of(side)
        added = TEMPLATE_TOKENS if self.tokenizer is None else template.own_tokens(self.tokenizer)
        return np.minimum(tokens + added, template.max_length)


class Workload(NamedTuple):
    """The documents and queries that are to be encoded.

    Attributes:
        name: Name of the corpus or data set.
        documents: Number of documents.
        queries: Number of judged queries.
        document_tokens: (n,) numbers of tokens of n documents that represent all, template included.
        query_tokens: (m,) numbers of tokens of m queries that represent all, template included.
        tokens_from: ``sample`` if the tokens were counted, ``published`` if they are from the table.
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
        names: Names of corpora, data sets and groups (``beir-13``), folders in BEIR layout, or ``demo``.
        reading: Templates and tokenizer of the model.
        data_dir: The folder of named data sets; nothing is downloaded.
        split: The split whose judged queries count; None means the default split of each data set.
        progress: Shows how many documents have been read.

    Raises:
        DataError: A data set is neither on disk nor in the table, or is malformed, or is on disk only while
            the checkpoint has no tokenizer; or a set of prompts has none for a data set.
    """
    members = dict.fromkeys(member for name in names for member in corpus_sizes.expand(name))
    name_of_corpus = {size.name if (size := corpus_sizes.find(name)) else name: name for name in members}
    return [_workload(name, reading, data_dir, split, progress) for name in name_of_corpus.values()]


def _workload(name: str, reading: Reading, data_dir: Path, split: str | None, progress: Progress) -> Workload:
    size = corpus_sizes.find(name)
    members = corpus_sizes.data_sets(name)
    reading = reading.on(members[0])
    try:
        for member in members:  # CQADupStack is sampled only if all its forums are on disk
            locate(member, data_dir=data_dir, offline=True)
    except DataError as error:
        if size is None:
            corpora = ", ".join(corpus.removeprefix("beir/") for corpus in corpus_sizes.load())
            raise DataError(f"{error}. Without their texts, these can be planned: {corpora}") from error
        return _published(size, reading)
    if reading.tokenizer is not None:
        datasets = [find(member, data_dir=data_dir, split=split, offline=True) for member in members]
        return _sampled(size, datasets, reading, progress)
    if size is not None:
        return _published(size, reading)
    raise DataError(
        f"the tokens of {name} cannot be counted: the checkpoint has no tokenizer; put its files beside its "
        "config.json"
    )


def _published(size: CorpusSize, reading: Reading) -> Workload:
    query_tokens = np.array([size.query_words * TOKENS_PER_WORD])
    return Workload(
        size.name,
        size.documents,
        size.queries,
        reading.with_template(size.lengths(), "document"),
        reading.with_template(query_tokens, "query"),
        "published",
    )


def _sampled(
    size: CorpusSize | None, datasets: Sequence[UncheckedDataset], reading: Reading, progress: Progress
) -> Workload:
    name = size.name if size else datasets[0].naming.names[0]
    queries = [query.text for dataset in datasets for query in dataset.queries]
    with progress.task(f"sample {name}", size and size.documents) as advance:
        contents = (document.contents for dataset in datasets for document in dataset.corpus)
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
    """Return the number of texts and ``SAMPLE`` of them, each drawn with equal probability.

    Source: Vitter, "Random sampling with a reservoir", ACM TOMS 1985, algorithm R.
    """
    random, count, drawn = Random(0), 0, list[str]()
    for count, text in enumerate(texts, 1):
        index = len(drawn) if count <= SAMPLE else random.randrange(count)
        if index < SAMPLE:
            drawn[index : index + 1] = [text]
        if advance is not None and not count % REPORT_EVERY:
            advance(REPORT_EVERY)
    return count, drawn
