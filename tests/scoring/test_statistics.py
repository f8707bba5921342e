from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llara_eval.scoring.statistics import holm, mean_interval, paired_difference

quiet = settings(max_examples=100, deadline=None, derandomize=True, database=None)
p_values = st.lists(st.floats(0, 1), max_size=12)


def samples(size, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.random(size), rng.random(size) + shift


def exact_p(delta) -> float:
    """Return the share of all changes of signs whose mean is at least as far from zero."""
    means = np.array([np.mean(np.array(signs) * delta) for signs in product([1, -1], repeat=len(delta))])
    return float(np.mean(np.abs(means) >= abs(np.mean(delta)) - 1e-12))


@pytest.mark.parametrize("size", [2, 3, 10, 300])
def test_interval_is_students_t(size) -> None:
    values = np.random.default_rng(size).random(size)
    spread = np.sqrt(np.var(values, ddof=1) / size)
    expected = stats.t.interval(0.95, df=size - 1, loc=values.mean(), scale=spread)
    assert mean_interval(values) == pytest.approx(expected, abs=1e-12)


def test_interval_by_hand() -> None:
    low, high = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    half = 3.182446305284263 * np.sqrt(5 / 3 / 4)
    assert (low, high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-12)


@pytest.mark.parametrize("values", [[0.25], [0.25, 0.25], [0.1] * 50])
def test_interval_without_spread_is_the_mean(values) -> None:
    assert mean_interval(np.array(values)) == (np.mean(values), np.mean(values))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(7).normal(0.4, 0.2, size=(3000, 12))
    hits = [low < 0.4 < high for low, high in map(mean_interval, draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.01)


def test_difference_is_second_minus_first() -> None:
    first, second = samples(30, shift=0.3)
    difference = paired_difference(first, second)
    assert difference.mean == pytest.approx(second.mean() - first.mean(), abs=1e-15)
    assert (difference.low, difference.high) == mean_interval(second - first)
    assert difference.low < difference.mean < difference.high


@pytest.mark.parametrize("size", [5, 40])
def test_difference_is_antisymmetric(size) -> None:
    first, second = samples(size, seed=3, shift=0.1)
    one, other = paired_difference(first, second), paired_difference(second, first)
    assert other == pytest.approx((-one.mean, -one.high, -one.low, one.p_value), abs=1e-15)


@pytest.mark.parametrize("seed", range(4))
def test_p_value_of_eight_queries_is_exact(seed) -> None:
    first, second = samples(8, seed, shift=0.2)
    assert paired_difference(first, second).p_value == pytest.approx(exact_p(second - first), abs=1e-12)


def test_p_value_is_exact_with_equal_values_and_zeros() -> None:
    delta = np.array([0.5, 0.5, 0.0, -0.5, 0.25, 0.25, 0.0, 0.5])
    assert paired_difference(np.zeros(8), delta).p_value == pytest.approx(exact_p(delta), abs=1e-12)
    assert exact_p(delta) == 0.25


def test_p_value_of_the_clearest_difference_is_two_of_all_signs() -> None:
    assert paired_difference(np.zeros(8), np.arange(1.0, 9.0)).p_value == pytest.approx(2 / 256, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.12, 0.2])
def test_p_value_of_many_queries_is_near_the_t_test(shift) -> None:
    first, second = samples(60, seed=11, shift=shift)
    expected = stats.ttest_rel(first, second).pvalue
    assert paired_difference(first, second).p_value == pytest.approx(expected, abs=0.02)


def test_p_value_of_many_queries_is_never_zero() -> None:
    assert 0 < paired_difference(np.zeros(60), np.ones(60)).p_value < 0.001


def test_equal_input_gives_equal_output_whatever_the_global_seed() -> None:
    first, second = samples(50, seed=5, shift=0.05)
    differences = set()
    for seed in (0, 1):
        np.random.seed(seed)
        differences.add(paired_difference(first, second))
    assert len(differences) == 1


def test_identical_systems_do_not_differ() -> None:
    values, _ = samples(50)
    assert paired_difference(values, values.copy()) == (0.0, 0.0, 0.0, 1.0)


def test_differences_that_cancel_do_not_differ() -> None:
    difference = paired_difference(np.zeros(4), np.array([1.0, -1.0, 0.5, -0.5]))
    assert (difference.mean, difference.p_value) == (0.0, 1.0)


def test_a_single_query_shows_nothing() -> None:
    assert paired_difference(np.array([0.25]), np.array([0.75])) == (0.5, 0.5, 0.5, 1.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], abs=1e-15)
    assert holm([0.04, 0.02, 0.02]) == pytest.approx([0.06, 0.06, 0.06], abs=1e-15)
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@quiet
@given(p_values)
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(raw) -> None:
    adjusted = holm(raw)
    assert all(p <= q <= min(1.0, len(raw) * p) for p, q in zip(raw, adjusted, strict=True))
    by_raw = [q for _, q in sorted(zip(raw, adjusted, strict=True))]
    assert by_raw == sorted(adjusted)


@quiet
@given(p_values, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order(raw, order) -> None:
    shuffled = list(range(len(raw)))
    order.shuffle(shuffled)
    adjusted = holm(raw)
    assert holm([raw[i] for i in shuffled]) == [adjusted[i] for i in shuffled]


@quiet
@given(p_values)
def test_holm_rejects_what_the_step_down_procedure_rejects(raw) -> None:
    level, rejected = 0.05, set()
    for step, i in enumerate(sorted(range(len(raw)), key=raw.__getitem__)):
        if (len(raw) - step) * raw[i] > level:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(raw)) if p <= level} == rejected
