"""Scores that other people published: they stand apart from our own results, each with its source."""

import csv
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from llara_eval.core.paths import DATA

PUBLISHED_FILE = DATA / "published.csv"
"""The table of published scores: its columns are the fields of :class:`PublishedScore`."""

BM25 = "BM25 (Lucene, flat, k1=0.9, b=0.4)"
BM25_MULTIFIELD = "BM25 (Lucene, multifield, k1=0.9, b=0.4)"
BM25_TUNED_PASSAGE = "BM25 (Lucene, flat, k1=0.82, b=0.68)"
BM25_TUNED_DOCUMENT = "BM25 (Lucene, flat, k1=3.44, b=0.87)"
REPLLAMA = "RepLLaMA-7B (Llama-2, LoRA)"
LLARA = "LLaRA-7B (arXiv v1)"
LLAMA2VEC = "Llama2Vec-7B (LLaRA, ACL 2024)"
BASELINES = (BM25, BM25_MULTIFIELD, REPLLAMA, LLARA, LLAMA2VEC)
"""The systems with which every evaluation is compared."""


class PublishedScore(NamedTuple):
    """One published score.

    Attributes:
        system: The system, as its source calls it.
        dataset: The data set, or ``mean/<group>`` where only the mean over a group was published.
        measure: Name of the measure.
        value: The mean over all queries, 0 to 1.
        source: The paper, page or file that has the score.
        confidence: A: the score was read in the primary source; B: independent secondary sources agree on it;
            C: one secondary source has it.
        zero_shot: Whether the system was trained without the training splits of BEIR.
        note: Conditions of the measurement.
        split: The split of the judgements; None for the one that everybody reports.
        checkpoint: The checkpoint that was measured, where the system has several.
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
    checkpoint: str = ""

    @property
    def second_hand(self) -> bool:
        """Whether the score was not read in its primary source."""
        return self.confidence != "A"


@cache
def load() -> Sequence[PublishedScore]:
    """Return all published scores, in the order of the file."""
    with PUBLISHED_FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_score(cells) for cells in csv.DictReader(file))


def _score(cells: dict[str, Any]) -> PublishedScore:
    cells |= {
        "value": float(cells["value"]),
        "zero_shot": cells["zero_shot"] == "yes",
        "split": cells["split"] or None,
    }
    return PublishedScore(**cells)


def find(system: str, dataset: str, measure: str) -> PublishedScore | None:
    """Return the latest score of a system that was published on the usual split, or None."""
    key = (system, dataset, measure)
    scores = [score for score in load() if score[:3] == key and score.split is None]
    return scores[-1] if scores else None
