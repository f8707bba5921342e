"""Scores other people published: kept apart from what we measured, each with its source."""

import csv
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from llara_eval.core.paths import DATA

PUBLISHED_FILE = DATA / "published.csv"
"""Where the published scores are kept, one value a row."""

BM25 = "BM25 (Lucene, flat, k1=0.9, b=0.4)"
BM25_MULTIFIELD = "BM25 (Lucene, multifield, k1=0.9, b=0.4)"
BM25_TUNED_PASSAGE = "BM25 (Lucene, flat, k1=0.82, b=0.68)"
BM25_TUNED_DOCUMENT = "BM25 (Lucene, flat, k1=3.44, b=0.87)"
REPLLAMA = "RepLLaMA-7B (Llama-2, LoRA)"
LLARA = "LLaRA-7B / Llama2Vec (Llama-2)"
BASELINES = (BM25, BM25_MULTIFIELD, REPLLAMA, LLARA)
"""The systems every evaluation is compared with."""


class PublishedScore(NamedTuple):
    """One published value.

    Attributes:
        system: The system as its source calls it.
        dataset: Data set, or ``mean/<set of sets>`` where only the mean was published.
        measure: Name of the measure.
        value: The mean, 0 to 1.
        source: Where it was read.
        confidence: A: read in the primary source; B: agreed by independent secondary sources.
        zero_shot: Whether the system was trained without the training splits of BEIR.
        note: Conditions.
        split: The judgements, where they are not those everybody reports; else None.
    """

    system: str
    dataset: str
    measure: str
    value: float
    source: str
    confidence: str
    zero_shot: bool
    note: str
    split: str | None = None


@cache
def load() -> Sequence[PublishedScore]:
    """Return all published scores, in the order of the file."""
    with PUBLISHED_FILE.open(encoding="utf-8", newline="") as file:
        return tuple(
            PublishedScore(
                row["system"],
                row["dataset"],
                row["measure"],
                float(row["value"]),
                row["source"],
                row["confidence"],
                row["zero_shot"] == "yes",
                row["note"],
                row["split"] or None,
            )
            for row in csv.DictReader(file)
        )


def find(system: str, dataset: str, measure: str) -> PublishedScore | None:
    """Return a published score on the usual judgements, the latest where one supersedes another, or None."""
    found = [row for row in load() if row[:3] == (system, dataset, measure) and row.split is None]
    return found[-1] if found else None
