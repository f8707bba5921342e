"""A choice of collections → how many tokens a model has to read.

Tokens are counted on a sample where a collection is at hand and the checkpoint has its tokenizer, and taken
from the table of :mod:`llara_eval.planning.corpus_sizes` otherwise.
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
from llara_eval.datasets.dataset import Found
from llara_eval.datasets.load import find, locate
from llara_eval.encoding.templates import Side, Templates
from llara_eval.planning import corpus_sizes
from llara_eval.planning.corpus_sizes import TEMPLATE_TOKENS, TOKENS_PER_WORD, CorpusSize

SAMPLE = 1_000
"""Documents, and queries, of a collection whose tokens are counted."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads texts.

    Attributes:
        templates: Its templates; only their lengths count where there is no tokenizer.
        tokenizer: Its tokenizer; None where the checkpoint has none.
    """

    templates: Templates
    tokenizer: Any = None

    def count(self, texts: Sequence[str], side: Side) -> NDArray[np.float64]:
        """Return the tokens of n texts, (n,)."""
        template = self.templates.of(side)
        return np.array([len(ids) for ids in template.token_ids(self.tokenizer, texts)], dtype=np.float64)

    def own_tokens(self, side: Side) -> int:
        """Return the tokens of the template; LLaRA's are taken where there is no tokenizer."""
        if self.tokenizer is None:
            return TEMPLATE_TOKENS
        return self.templates.of(side).own_tokens(self.tokenizer)

    def with_template(self, tokens: NDArray[np.float64], side: Side) -> NDArray[np.float64]:
        """Return the tokens of n sequences, (n,), from those of their texts."""
        return np.minimum(tokens + self.own_tokens(side), self.templates.of(side).max_length)


class Workload(NamedTuple):
    """A collection that is to be encoded.

    Attributes:
        name: Its name.
        documents: Number of documents.
        queries: Number of judged queries.
        document_tokens: (n,) tokens of documents that stand for all of them, template included.
        query_tokens: (m,) tokens of queries that stand for all of them.
        tokens_from: Whether they were counted on a sample or are from the table.
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
    """Return what is to be encoded.

    Args:
        names: Names of the table, groups of them (``beir-13``), folders in BEIR layout, or ``demo``.
        reading: How the model reads texts.
        data_dir: Where named collections are looked for; nothing is downloaded.
        split: The judgements of collections at hand whose queries count; the usual ones by default.
        progress: Shows how many documents have been read.

    Raises:
        DataError: A collection is neither known nor at hand, or malformed, or its tokens cannot be counted.
    """
    members = dict.fromkeys(member for name in names for member in corpus_sizes.expand(name))
    once = {size.name if (size := corpus_sizes.find(name)) else name: name for name in members}
    return [_workload(name, reading, data_dir, split, progress) for name in once.values()]


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
        found = [find(part, data_dir=data_dir, split=split, offline=True) for part in parts]
        return _sampled(size, found, reading, progress)
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
    size: CorpusSize | None, found: Sequence[Found], reading: Reading, progress: Progress
) -> Workload:
    known = found[0].known
    name = size.name if size else known.name if known else found[0].other_name
    queries = [query.text for part in found for query in part.queries]
    with progress.task(f"sample {name}", size and size.documents) as advance:
        documents, texts = _draw((document.contents for part in found for document in part.corpus), advance)
    if not texts:
        raise DataError(f"{found[0].corpus.origin}: the corpus is empty")
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
        place = len(drawn) if count <= SAMPLE else random.randrange(count)
        if place < SAMPLE:
            drawn[place : place + 1] = [text]
        if advance is not None and not count % REPORT_EVERY:
            advance(REPORT_EVERY)
    return count, drawn
