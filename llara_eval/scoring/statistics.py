"""Confidence intervals of means, and paired tests between systems."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 20_000
"""The most assignments of signs that a randomisation test tries."""


class Difference(NamedTuple):
    """A difference of means over the same queries, second system minus first.

    Attributes:
        mean: The difference.
        low: The lower end of its 95 % confidence interval.
        high: The upper end.
        p_value: The p-value of the hypothesis that the systems do not differ.
    """

    mean: float
    low: float
    high: float
    p_value: float


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % confidence interval (low, high) of the mean of values (Q,), by Student's t.

    Both ends equal the mean if there are fewer than two values, or if all values are equal.
    Source: Sakai, "Laboratory Experiments in Information Retrieval" (2018), section 2.2.
    """
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return mean, mean
    half = float(stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return mean - half, mean + half


def paired_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Compare the values (Q,) of two systems for the same queries in the same order.

    The p-value is that of the two-sided paired randomisation test (Smucker, Allan and Carterette, "A
    Comparison of Statistical Significance Tests for Information Retrieval Evaluation", CIKM 2007), with a
    fixed seed, so that equal input gives an equal p-value. The interval is that of :func:`mean_interval`.
    """
    differences = second - first
    mean, (low, high) = float(np.mean(differences)), mean_interval(differences)
    if len(differences) < 2 or not np.any(differences):
        return Difference(mean, low, high, 1.0)
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // len(differences)),
        rng=np.random.default_rng(0),
    )
    return Difference(mean, low, high, float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
    Statistics 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(np.asarray(p_values)[order] * factors, 1.0))
    return adjusted.tolist()
