"""Macro means over groups of data sets (CQADupStack, BEIR-13 to BEIR-18): over all members, or none."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from llara_eval.datasets.known import AVERAGES, find
from llara_eval.evaluation.record import Result, split_to_name
from llara_eval.reports.published import PublishedScore

Values = Mapping[str, float]
"""Data set → value of one measure of one system; ``mean/<group>`` → a mean published without its parts."""


class Mean(NamedTuple):
    """A macro mean.

    Attributes:
        value: The mean, 0 to 1.
        bare: Whether only the mean was published, without the values of the members.
    """

    value: float
    bare: bool = False


def title(group: str) -> str:
    """Return the heading of a mean over a group: the group's name with n, the number of its members."""
    name = {"beir/cqadupstack": "CQADupStack", "nanobeir": "NanoBEIR"}.get(group, group.upper())
    return f"{name} (n = {len(AVERAGES[group])})"


def mean(name: str, values: Values) -> Mean | None:
    """Return the macro mean over a group, or the value of a data set; None where a member has no value.

    A member that is itself a group (CQADupStack) counts as one data set, by its own mean.
    """
    if name in values:
        return Mean(values[name])
    members = AVERAGES.get(name, ())
    parts = [part.value for member in members if (part := mean(member, values))]
    if parts and len(parts) == len(members):
        return Mean(math.fsum(parts) / len(parts))
    bare = values.get(f"mean/{name}")
    return None if bare is None else Mean(bare, bare=True)


def complete(columns: Iterable[Values]) -> list[str]:
    """Return the groups over which at least one of several systems has a mean."""
    systems = list(columns)
    return [group for group in AVERAGES if any(mean(group, values) for values in systems)]


def measured(results: Iterable[Result], measure: str) -> dict[str, dict[str, float]]:
    """Return system → data set → mean of a measure, over the results on the usual splits."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for result in results:
        known = find(result.dataset)
        usual = result.split == known.split if known else not split_to_name(result.dataset, result.split)
        if usual and measure in result.measures:
            values[result.system][result.dataset] = result.means[measure]
    return values


def published(scores: Iterable[PublishedScore], measure: str) -> dict[str, dict[str, float]]:
    """Return system → data set → published value on the usual split; of several values, the last one."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for score in scores:
        if score.measure == measure and score.split is None:
            values[score.system][score.dataset] = score.value
    return values
