"""A test collection of any size, of made-up words: it is streamed to disk, and depends on its seed alone.

Word frequencies follow Zipf's law, and document lengths those of a real data set. Each query has a few
documents that share words with it, so that scores are not trivial. Memory does not grow with the number of
documents.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from llara_eval.core.types import as_ids
from llara_eval.datasets.folder import corpus_of

MEAN_WORDS = {
    "msmarco": 55.98,
    "trec-covid": 160.77,
    "bioasq": 202.61,
    "nfcorpus": 232.26,
    "nq": 78.88,
    "hotpotqa": 46.30,
    "fiqa": 132.32,
    "signal1m": 13.93,
    "trec-news": 634.79,
    "robust04": 466.40,
    "arguana": 166.80,
    "webis-touche2020": 292.37,
    "cqadupstack": 129.09,
    "quora": 11.44,
    "dbpedia-entity": 49.68,
    "scidocs": 176.19,
    "fever": 84.76,
    "climate-fever": 84.76,
    "scifact": 213.63,
}
"""Data set → mean number of words of a document (Thakur et al., BEIR, 2021, table 1)."""

SPREAD = 0.5
"""Standard deviation of the logarithm of the number of words; that of ArguAna is .50, of SciFact .37."""

STEPS = np.linspace(0.005, 0.995, 100)
"""The quantiles that describe a distribution of lengths: the middles of 100 equal parts."""

VOCABULARY = 100_000
QUERY_WORDS = 8
RELEVANT = 3
"""Relevant documents of a query; half of their words are words of the query."""

BLOCK = 4_096
"""Documents that are drawn at a time; each block has a random generator of its own."""

_SYLLABLES = [consonant + vowel for consonant in "lmnst" for vowel in "aeiou"]


def lengths_like(name_or_folder: str) -> NDArray[np.float64]:
    """Return the quantiles, at ``STEPS``, of the number of words of a data set's documents.

    Args:
        name_or_folder: A folder in BEIR layout, whose words are counted; or a name of ``MEAN_WORDS``, for
            a log-normal distribution with that mean.

    Raises:
        SystemExit: The name is neither.
    """
    if Path(name_or_folder).is_dir():
        corpus = corpus_of(Path(name_or_folder))
        words = np.fromiter((len(document.contents.split()) for document in corpus), dtype=np.int64)
        return np.quantile(words, STEPS)
    if name_or_folder not in MEAN_WORDS:
        raise SystemExit(f"{name_or_folder!r} is neither a folder nor one of {', '.join(MEAN_WORDS)}")
    normal = NormalDist(sigma=SPREAD)
    shape = np.exp([normal.inv_cdf(step) for step in STEPS])
    return shape * MEAN_WORDS[name_or_folder] / shape.mean()


def write(folder: Path, documents: int, queries: int, lengths: NDArray[np.float64], seed: int) -> None:
    """Write a folder in BEIR layout.

    Args:
        folder: The folder; files that are there are replaced.
        documents: The number of documents, at least ``RELEVANT`` for each query.
        queries: The number of queries.
        lengths: Quantiles of the number of words, see :func:`lengths_like`.
        seed: Equal seeds give equal bytes.
    """
    rng = np.random.default_rng((seed, 0))
    query_words = _draw_words(rng, queries * QUERY_WORDS).reshape(queries, QUERY_WORDS)
    relevant = rng.choice(documents, queries * RELEVANT, replace=False).tolist()
    query_of = {document: row % queries for row, document in enumerate(relevant)}

    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    with (folder / "corpus.jsonl").open("w") as file:
        planted = {document: query_words[query] for document, query in query_of.items()}
        for number, text in enumerate(texts(documents, lengths, planted, seed)):
            file.write(json.dumps({"_id": f"d{number}", "text": text}) + "\n")
    with (folder / "queries.jsonl").open("w") as file:
        for query, words in enumerate(query_words):
            file.write(json.dumps({"_id": f"q{query}", "text": " ".join(_WORDS[words])}) + "\n")
    with (folder / "qrels" / "test.tsv").open("w") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        file.writelines(f"q{query}\td{document}\t1\n" for document, query in query_of.items())


def texts(
    documents: int, lengths: NDArray[np.float64], planted: Mapping[int, NDArray[np.int64]], seed: int
) -> Iterator[str]:
    """Yield the texts of all documents.

    Args:
        documents: The number of documents.
        lengths: Quantiles of the number of words.
        planted: Number of a document → the words (QUERY_WORDS,) that it shares with a query.
        seed: Equal seeds give equal texts.
    """
    for first in range(0, documents, BLOCK):
        rng = np.random.default_rng((seed, 1, first))
        sizes = np.interp(rng.random(min(BLOCK, documents - first)), STEPS, lengths)
        ends = np.maximum(np.rint(sizes), 1).astype(np.int64).cumsum()
        words = _draw_words(rng, ends[-1])
        for number, document in enumerate(np.split(words, ends[:-1]), first):
            if number in planted:
                shared = rng.random(len(document)) < 0.5
                document[shared] = rng.choice(planted[number], shared.sum())
            yield " ".join(_WORDS[document])


def _draw_words(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Draw words by Zipf's law: the logarithm of the rank is uniform, so the k-th word has a share of 1/k."""
    return np.exp(rng.random(count) * np.log(len(_WORDS))).astype(np.int64) - 1


def _spell(number: int) -> str:
    """Return the word of a rank; frequent words are shorter."""
    number, last = divmod(number, len(_SYLLABLES))
    return (_spell(number - 1) if number else "") + _SYLLABLES[last]


_WORDS = as_ids(map(_spell, range(VOCABULARY)))
