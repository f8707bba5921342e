"""No hostile input ends in a traceback, runs code, changes an input, asks the network, or waits for long."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from case import all_cases, tiers

if TYPE_CHECKING:
    from loop import Loop

SAMPLE, LARGER = 24, 120
"""How many cases run for every change, and how many more with the slow tests."""

PROCESSES = 2
"""Warmed processes, each in a worker of its own, for the nightly cases; the others share one of them."""

_CASES = all_cases()


def _parameters() -> list[Any]:
    parameters = []
    for number, (one, tier) in enumerate(tiers(_CASES.values(), SAMPLE, LARGER).items()):
        process = number % PROCESSES if tier == "nightly" else 0
        marks = [pytest.mark.xdist_group(f"hostile{process}")]
        if tier:
            marks.append(getattr(pytest.mark, tier))
        shown = one.encode("ascii", "backslashreplace").decode()
        parameters.append(pytest.param(one, id=shown, marks=marks))
    return parameters


@pytest.mark.parametrize("identifier", _parameters())
def test_hostile(identifier: str, loop: "Loop") -> None:
    answer = loop.run(identifier)
    assert not answer["problems"], "\n".join([*answer["problems"], answer["where"], answer["stderr"]])


def test_there_are_a_thousand_cases_and_each_class_is_in_the_sample() -> None:
    counts = Counter(case.group for case in _CASES.values())
    assert sum(counts.values()) >= 1000
    assert set(counts) == {"runs", "checkpoints", "code", "collection", "caches", "results", "environment"}
    chosen = Counter(
        _CASES[one].group for one, tier in tiers(_CASES.values(), SAMPLE, LARGER).items() if not tier
    )
    assert set(chosen) == set(counts), "each class is in the sample"
