"""Intervals of means and paired tests between systems."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 20_000


class Difference(NamedTuple):
    """A paired difference of means, second minus first."""

    mean: float
    low: float
    high: float
    p_value: float


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % confidence interval of a mean by Student's t over queries.

    Source: Sakai, "Laboratory Experiments in Information Retrieval" (2018), section 2.2.

    Args:
        values: (Q,) per-query values.

    Returns:
        (low, high); both equal the mean where there are fewer than two values or no spread.
    """
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, mean
    half = float(stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return mean - half, mean + half


def paired_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Compare two systems on the same queries.

    The p-value is of the two-sided paired randomisation test (Smucker, Allan and Carterette, CIKM
    2007), with a fixed seed, so that equal input gives an equal value; the interval is Student's t
    of the per-query differences.

    Args:
        first: (Q,) values of the baseline.
        second: (Q,) values of the other system, same queries in the same order.
    """
    delta = second - first
    low, high = mean_interval(delta)
    if len(delta) < 2 or not np.any(delta):
        return Difference(float(np.mean(delta)), low, high, 1.0)
    test = stats.permutation_test(
        (delta,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // len(delta)),
        rng=np.random.default_rng(0),
    )
    return Difference(float(np.mean(delta)), low, high, float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons (Holm, Scandinavian Journal of Statistics 1979)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
