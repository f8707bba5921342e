"""Training groups: a query, a positive passage, and hard negatives drawn for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llara_eval.training.data import RowFormat


@dataclass(frozen=True, slots=True)
class Group:
    """What is learnt from one row in one epoch.

    Attributes:
        query: The query.
        passages: G passages, the positive first; fewer where the row has fewer negatives.
        known: All positives of the row; none of them is ever a negative of this query.
        teacher: G scores of another model, or None.
    """

    query: str
    passages: tuple[str, ...]
    known: tuple[str, ...]
    teacher: tuple[float, ...] | None


def problem_of(row: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a row of ``query``, ``pos`` and, maybe, ``neg`` and scores, or return None."""
    if not isinstance(row.get("query"), str):
        return f"query: expected text, found {_shown(row.get('query'))}"
    for field in ("pos", "neg"):
        texts = row.get(field, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return f"{field}: expected a list of texts, found {_shown(texts)}"
        scores = row.get(f"{field}_scores")
        if scores is not None and (
            not isinstance(scores, list)
            or len(scores) != len(texts)
            or not all(isinstance(score, int | float) and np.isfinite(score) for score in scores)
        ):
            return f"{field}_scores: expected {len(texts)} numbers, one for each text, found {_shown(scores)}"
    if not row.get("pos"):
        return "pos: expected at least one text"
    return None


FORMAT = RowFormat("groups", problem_of)
"""Rows of ``query``, ``pos`` and, maybe, ``neg`` and a teacher's scores."""


def draw(row: Mapping[str, Any], size: int, *, seed: int, epoch: int, index: int) -> Group:
    """Draw one positive and up to ``size`` − 1 distinct negatives.

    Args:
        row: A row that :func:`problem_of` finds nothing wrong with.
        size: G, the number of passages.
        seed: Of the run.
        epoch: Number of passes over the data before this one.
        index: The row's number; seed, epoch and index alone decide what is drawn.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch, index]))
    positives, negatives = row["pos"], row.get("neg", [])
    positive = int(generator.integers(len(positives)))
    first = {text: column for column, text in reversed(list(enumerate(negatives)))}
    columns = [
        column for text, column in sorted(first.items(), key=lambda item: item[1]) if text not in positives
    ]
    drawn = [columns[i] for i in generator.permutation(len(columns))[: size - 1]]
    teacher = None
    if row.get("pos_scores") is not None and (row.get("neg_scores") is not None or not drawn):
        scores = [row["pos_scores"][positive], *(row["neg_scores"][column] for column in drawn)]
        teacher = tuple(float(score) for score in scores)
    passages = (positives[positive], *(negatives[column] for column in drawn))
    return Group(row["query"], passages, tuple(positives), teacher)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]
