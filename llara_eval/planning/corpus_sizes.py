"""How much text the public collections hold, for planning without them: ``data/corpus_sizes.csv``.

``tokens`` is the mean of a document in tokens of a LLaMA tokenizer, cut at ``MEASURED_LENGTH`` with
``TEMPLATE_TOKENS`` of LLaRA's template among them: 1.10 times the published totals of WordPiece tokens, good
to 10 %. Documents and queries are those of the catalogue and of MS MARCO's own files. The ``query_words`` of
SciFact and ArguAna (its queries are arguments) were counted; the others are 10 words long, as questions and
claims are. Queries are .02 % of all tokens.

Other limits need more than a mean: lengths are taken as lognormal with the ``spread`` given, the standard
deviation of their logarithm. It is .42 on SciFact, .50 on ArguAna, and .89 on the web pages of MedQuAD; .9 is
taken for news, debates and web documents, .5 for all others.
"""

import csv
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.paths import DATA
from llara_eval.datasets.known import AVERAGES

MEASURED_LENGTH = 512
"""Tokens at which the documents were cut whose mean is in the table."""

TEMPLATE_TOKENS = 21
"""Of these, tokens of the template (LLaRA's)."""

TOKENS_PER_WORD = 1.5
"""Tokens of a word of a query: SmolLM2's tokenizer makes 1.5 on SciFact and 1.4 on ArguAna."""

_QUANTILES = 1000
"""Lengths that stand for all of a collection."""


class CorpusSize(NamedTuple):
    """A row of the table.

    Attributes:
        name: ``beir/<set>``, or ``msmarco-document``; ``beir/cqadupstack`` is all twelve forums.
        documents: Number of documents.
        tokens: Mean tokens of a document, see the module's docstring.
        spread: Standard deviation of the logarithm of a document's tokens.
        queries: Number of judged queries.
        query_words: Mean words of a query.
    """

    name: str
    documents: int
    tokens: float
    spread: float
    queries: int
    query_words: float

    def lengths(self) -> NDArray[np.float64]:
        """Return (1000,) equally likely tokens of a document's text, uncut and without template."""
        places = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        shape = np.exp(self.spread * np.array([NormalDist().inv_cdf(place) for place in places]))
        room, wanted = MEASURED_LENGTH - TEMPLATE_TOKENS, self.tokens - TEMPLATE_TOKENS
        low, high = 0.0, 1e6  # of the median; the mean after cutting grows with it
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if np.minimum(middle * shape, room).mean() < wanted else (low, middle)
        return low * shape


@cache
def load() -> dict[str, CorpusSize]:
    """Return the table by name, in its order."""
    path = DATA / "corpus_sizes.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            CorpusSize(
                row["name"],
                int(row["documents"]),
                float(row["tokens"]),
                float(row["spread"]),
                int(row["queries"]),
                float(row["query_words"]),
            )
            for row in csv.DictReader(file)
        ]
    return {row.name: row for row in rows}


def find(name: str) -> CorpusSize | None:
    """Return the row of a collection, by any name it has in the catalogue, or None.

    ``msmarco-passage/<split>`` is ``beir/msmarco``, and a split of ``msmarco-document`` is all of it: what is
    planned is the corpus.
    """
    corpus = name.partition("/")[0]
    if corpus == "msmarco-passage":
        return load()["beir/msmarco"]
    return load().get(corpus) or load().get(name) or load().get(f"beir/{name}")


def expand(name: str) -> tuple[str, ...]:
    """Return the collections a name stands for: members of ``beir-13``, 14, 15 or 18, or itself."""
    average = name.lower()
    return AVERAGES[average] if average.startswith("beir-") and average in AVERAGES else (name,)
