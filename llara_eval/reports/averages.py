"""Macro means over named sets of data sets, CQADupStack and BEIR-13 to BEIR-18: of all members, or none."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from llara_eval.datasets.known import AVERAGES, find
from llara_eval.evaluation.record import Result, split_to_name
from llara_eval.reports.published import PublishedScore

Values = Mapping[str, float]
"""Data set → value of one measure of one system; ``mean/<set of sets>`` → a mean published without parts."""


class Mean(NamedTuple):
    """A macro mean.

    Attributes:
        value: The mean.
        bare: Whether only the mean was published, not what it is over.
    """

    value: float
    bare: bool = False


def title(name: str) -> str:
    """Return the name of a set of sets as a mean over it must carry it: with n, the number of data sets."""
    shown = "CQADupStack" if name == "beir/cqadupstack" else name.upper()
    return f"{shown} (n = {len(AVERAGES[name])})"


def mean(name: str, values: Values) -> Mean | None:
    """Return the macro mean over a set of sets, or None where a member has no value.

    A member that is a set of sets itself (CQADupStack) counts as one, by its own mean.
    """
    if name in values:
        return Mean(values[name])
    parts = [value for member in AVERAGES[name] if (value := _value(member, values)) is not None]
    if len(parts) == len(AVERAGES[name]):
        return Mean(math.fsum(parts) / len(parts))
    bare = values.get(f"mean/{name}")
    return None if bare is None else Mean(bare, bare=True)


def complete(columns: Iterable[Values]) -> list[str]:
    """Return the sets of sets that have a mean in at least one of some systems' values."""
    systems = list(columns)
    return [name for name in AVERAGES if any(mean(name, values) for values in systems)]


def _value(dataset: str, values: Values) -> float | None:
    if dataset not in AVERAGES:
        return values.get(dataset)
    whole = mean(dataset, values)
    return whole and whole.value


def measured(results: Iterable[Result], measure: str) -> dict[str, dict[str, float]]:
    """Return system → values of its results on the splits that everybody reports."""
    out: dict[str, dict[str, float]] = defaultdict(dict)
    for result in results:
        known = find(result.dataset)
        usual = result.split == known.split if known else not split_to_name(result.dataset, result.split)
        if usual and measure in result.measures:
            out[result.system][result.dataset] = result.means[measure]
    return out


def published(rows: Iterable[PublishedScore], measure: str) -> dict[str, dict[str, float]]:
    """Return system → its published values on the usual splits, the latest where one supersedes another."""
    out: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row.measure == measure and row.split is None:
            out[row.system][row.dataset] = row.value
    return out
