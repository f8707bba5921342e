"""The tokens of the known corpora, for planning without their texts.

The facts are those of :mod:`llara_eval.datasets.known`. ``tokens`` is the mean of a document in tokens of a
LLaMA tokenizer, cut at ``MEASURED_LENGTH`` with ``TEMPLATE_TOKENS`` of LLaRA's template among them: 1.10
times the published totals of WordPiece tokens, good to 10 %. The ``query_words`` of SciFact and ArguAna (its
queries are arguments) were counted; the others are 10 words long, as questions and claims are. Queries are
.02 % of all tokens.

Other limits need more than a mean: lengths are taken as lognormal with the ``spread`` given, the standard
deviation of their logarithm. It is .42 on SciFact, .50 on ArguAna, and .89 on the web pages of MedQuAD; .9 is
taken for news, debates and web documents, .5 for all others.
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
"""Tokens to which documents were cut before the mean of the table was taken."""

TEMPLATE_TOKENS = 21
"""Tokens of LLaRA's template, which the mean includes."""

TOKENS_PER_WORD = 1.5
"""Mean tokens of a word of a query: SmolLM2's tokenizer makes 1.5 on SciFact and 1.4 on ArguAna."""

_QUANTILES = 1000
"""Number of lengths that stand for all documents of a corpus."""


class CorpusSize(NamedTuple):
    """A corpus whose tokens are known.

    Attributes:
        name: ``beir/<set>``, or ``msmarco-document``; ``beir/cqadupstack`` is all twelve forums.
        members: The data sets that together are the corpus and its queries.
    """

    name: str
    members: tuple[KnownDataset, ...]

    @property
    def documents(self) -> int:
        """Number of documents."""
        return sum(known.documents or 0 for known in self.members)

    @property
    def queries(self) -> int:
        """Number of judged queries."""
        return sum(known.queries or 0 for known in self.members)

    @property
    def tokens(self) -> float:
        """Mean tokens of a document, cut as the module's docstring says."""
        return self.members[0].tokens or 0.0

    @property
    def query_words(self) -> float:
        """Mean words of a query."""
        return self.members[0].query_words

    def lengths(self) -> NDArray[np.float64]:
        """Return (1000,) equally likely tokens of a document's text, uncut and without template."""
        quantiles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        normal = np.array([NormalDist().inv_cdf(quantile) for quantile in quantiles])
        shape = np.exp(self.members[0].spread * normal)
        longest, mean = MEASURED_LENGTH - TEMPLATE_TOKENS, self.tokens - TEMPLATE_TOKENS
        low, high = 0.0, 1e6  # of the median; the mean after cutting grows with it
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if np.minimum(middle * shape, longest).mean() < mean else (low, middle)
        return low * shape


@cache
def load() -> dict[str, CorpusSize]:
    """Return the corpora whose tokens are known, by name."""
    members: dict[str, list[KnownDataset]] = {}
    for known in KNOWN.values():
        if known.tokens is not None:
            members.setdefault(known.corpus, []).append(known)
    return {name: CorpusSize(name, tuple(parts)) for name, parts in members.items()}


def find(name: str) -> CorpusSize | None:
    """Return a corpus by its name or that of a data set with all its documents, or None.

    ``msmarco-passage/<split>`` is ``beir/msmarco``, and a split of ``msmarco-document`` is all of it: what is
    planned is the corpus. A forum of CQADupStack is only a part of its corpus.
    """
    known = find_known(name) or _official(name)
    if known is None:
        return load().get(name) or load().get(f"beir/{name}")
    size = load().get(known.corpus)
    return size if size and size.documents == known.documents else None


def data_sets(name: str) -> tuple[str, ...]:
    """Return the data sets whose texts together are what a name stands for; by default, itself."""
    if find_known(name):
        return (name,)
    if official := _official(name):
        return (official.name,)
    return expand_known(name)


def _official(folder: str) -> KnownDataset | None:
    """Return the first data set of a folder of official files, or None: ``msmarco-document`` is its dev."""
    return next((known for known in KNOWN.values() if known.files and known.folder == folder), None)


def expand(name: str) -> tuple[str, ...]:
    """Return the corpora a name stands for: the members of ``beir-13``, 14, 15 or 18, or itself."""
    return (name,) if find(name) else AVERAGES.get(name.lower(), (name,))
