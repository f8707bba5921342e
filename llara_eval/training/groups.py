"""Training groups: a query, a positive passage, and hard negatives that are drawn from a row."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llara_eval.training.data import RowFormat


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A row of training data.

    Attributes:
        query: The query.
        pos: Its positive passages, at least one.
        neg: Its hard negatives.
        pos_scores: A teacher's score of each positive.
        neg_scores: A teacher's score of each hard negative.
    """

    query: str
    pos: list[str]
    neg: list[str] = field(default_factory=list)
    pos_scores: list[float] | None = None
    neg_scores: list[float] | None = None

    def __post_init__(self) -> None:
        """Refuse a row that makes no group.

        Raises:
            ValueError: There is no positive, a text is empty, or there is not one finite score for each
                passage.
        """
        if not self.pos:
            raise ValueError("pos: expected at least one text")
        for name, texts in (("query", [self.query]), ("pos", self.pos), ("neg", self.neg)):
            if not all(map(str.strip, texts)):
                raise ValueError(f"{name}: a text is empty")
        for name, texts, scores in (("pos", self.pos, self.pos_scores), ("neg", self.neg, self.neg_scores)):
            if scores is not None and (len(scores) != len(texts) or not all(map(math.isfinite, scores))):
                raise ValueError(
                    f"{name}_scores: expected {len(texts)} numbers, one for each text, found {scores}"
                )


FORMAT = RowFormat("groups-2", GroupRow)
"""Rows of ``query``, ``pos`` and, optionally, ``neg`` and a teacher's scores."""


@dataclass(frozen=True, slots=True)
class Group:
    """The texts that are learnt from one row in one epoch.

    Attributes:
        query: The query.
        passages: G passages, the positive first; fewer where the row has fewer negatives.
        known: All positives of the row; none of them is ever a negative of this query.
        teacher: A teacher's score of each of the G passages, or None.
    """

    query: str
    passages: tuple[str, ...]
    known: tuple[str, ...]
    teacher: tuple[float, ...] | None


def draw(
    row: Mapping[str, Any], size: int, *, seed: int, epoch: int, index: int, distinct: bool = True
) -> Group:
    """Draw one positive and ``size`` − 1 negatives, or as many as there are.

    Args:
        row: A row of the form of :class:`GroupRow`.
        size: G, the number of passages.
        seed: The seed of the run.
        epoch: Number of passes over the data before this one.
        index: The row's number. What is drawn depends on seed, epoch and index alone.
        distinct: Whether the negatives differ from each other and from the positives. Otherwise the row's
            list is taken as it is, and repeated where it is too short: as often as its distinct texts
            require (FlagOpen/FlagEmbedding at 7ed43d67, research/LLARA/finetune/data.py).
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch, index]))
    positives, negatives = row["pos"], row.get("neg", [])
    positive = int(generator.integers(len(positives)))
    columns = list(range(len(negatives)))
    if distinct:
        first: dict[str, int] = {}  # the first column of each distinct negative
        for column, text in enumerate(negatives):
            if text not in positives:
                first.setdefault(text, column)
        columns = list(first.values())
    elif 0 < len(columns) < size - 1:
        columns *= math.ceil((size - 1) / len(set(negatives)))
    drawn = [columns[i] for i in generator.permutation(len(columns))[: size - 1]]
    teacher = None
    if row.get("pos_scores") is not None and (row.get("neg_scores") is not None or not drawn):
        scores = [row["pos_scores"][positive], *(row["neg_scores"][column] for column in drawn)]
        teacher = tuple(float(score) for score in scores)
    passages = (positives[positive], *(negatives[column] for column in drawn))
    return Group(row["query"], passages, tuple(positives), teacher)
