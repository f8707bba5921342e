"""The tokens of the public corpora, for planning without their texts.

The facts are those of :mod:`llara_eval.datasets.known`. ``tokens`` is the mean number of LLaMA tokens of a
document truncated to ``MEASURED_LENGTH``, with the ``TEMPLATE_TOKENS`` of LLaRA's template: 1.10 times the
published totals of WordPiece tokens, with an error of at most 10 %. The ``query_words`` of SciFact and
ArguAna (whose queries are arguments) were counted; the other queries are assumed to have 10 words, a usual
length of questions and claims. Queries are .02 % of all tokens.

Other maximum lengths need a distribution: lengths are assumed to be lognormal, and ``spread`` is the standard
deviation of their logarithm. It was measured on SciFact (.42), ArguAna (.50) and the web pages of MedQuAD
(.89); .9 is assumed for news, debates and web documents, and .5 for all others.
"""

from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.datasets.known import AVERAGES, KNOWN, KnownDataset
from llara_eval.datasets.known import expand as expand_known
from llara_eval.datasets.known import find as find_known

MEASURED_LENGTH = 512
"""Maximum tokens of a document, template included, in the means of the table."""

TEMPLATE_TOKENS = 21
"""Tokens of LLaRA's template, which the means of the table include."""

TOKENS_PER_WORD = 1.5
"""Mean tokens of a word in a query, by SmolLM2's tokenizer: 1.5 on SciFact, 1.4 on ArguAna."""

_QUANTILES = 1000
"""Number of lengths that represent all documents of a corpus."""


class CorpusSize(NamedTuple):
    """A corpus whose tokens are known.

    Attributes:
        name: ``beir/<set>`` or ``msmarco-document``; ``beir/cqadupstack`` is the corpus of all twelve forums.
        documents: Number of documents.
        queries: Number of judged queries.
        tokens: Mean tokens of a document, see the module's docstring.
        spread: Standard deviation of the logarithm of a document's tokens.
        query_words: Mean words of a query.
    """

    name: str
    documents: int
    queries: int
    tokens: float
    spread: float
    query_words: float

    def lengths(self) -> NDArray[np.float64]:
        """Return (1000,) equally likely numbers of tokens of a document, not truncated, without template."""
        quantiles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        normal = np.array([NormalDist().inv_cdf(quantile) for quantile in quantiles])
        shape = np.exp(self.spread * normal)
        longest, mean = MEASURED_LENGTH - TEMPLATE_TOKENS, self.tokens - TEMPLATE_TOKENS
        low, high = 0.0, 1e6  # bounds of the median: the mean of truncated lengths grows with it
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if np.minimum(middle * shape, longest).mean() < mean else (low, middle)
        return low * shape


@cache
def load() -> dict[str, CorpusSize]:
    """Return the corpora whose tokens are known, by name."""
    sizes: dict[str, CorpusSize] = {}
    for known in KNOWN.values():
        if known.tokens is not None:
            size = sizes.get(known.corpus) or CorpusSize(
                known.corpus, 0, 0, known.tokens, known.spread, known.query_words
            )
            sizes[known.corpus] = size._replace(
                documents=size.documents + (known.documents or 0), queries=size.queries + (known.queries or 0)
            )
    return sizes


def find(name: str) -> CorpusSize | None:
    """Return the corpus of a name, or of a data set that has all documents of the corpus, or None.

    The corpus of ``msmarco-passage/<split>`` is ``beir/msmarco``, and that of ``msmarco-document/<split>`` is
    ``msmarco-document``. A forum of CQADupStack has only a part of its corpus, so it has no corpus here.
    """
    known = find_known(name) or _official(name)
    if known is None:
        return load().get(name) or load().get(f"beir/{name}")
    size = load().get(known.corpus)
    return size if size and size.documents == known.documents else None


def data_sets(name: str) -> tuple[str, ...]:
    """Return the names of the data sets that a name of a corpus, group or data set means."""
    if find_known(name):
        return (name,)
    if official := _official(name):
        return (official.name,)
    return expand_known(name)


def _official(folder: str) -> KnownDataset | None:
    """Return the first data set of a folder of official files, or None: dev for ``msmarco-document``."""
    return next((known for known in KNOWN.values() if known.files and known.folder == folder), None)


def expand(name: str) -> tuple[str, ...]:
    """Return the names of the corpora of a group (``beir-13``, 14, 15 or 18), or a tuple of another name."""
    return (name,) if find(name) else AVERAGES.get(name.lower(), (name,))
