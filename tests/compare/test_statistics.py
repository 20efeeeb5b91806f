"""Statistics against scipy's own tests and formulas written out another way."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from fedjourney.comparison import statistics

VALUES = [0.81, 0.79, 0.84, 0.80, 0.83]


def test_the_interval_is_students() -> None:
    found = statistics.interval(VALUES)
    low, high = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert found == pytest.approx((np.mean(VALUES), low, high))
    assert statistics.spread(VALUES) == pytest.approx(np.std(VALUES, ddof=1))


def test_p_values_are_those_of_scipy() -> None:
    one = [0.012, -0.003, 0.02, 0.007, 0.001]
    assert statistics.above(one, 0.002) == pytest.approx(stats.ttest_1samp(one, 0.002, alternative="greater").pvalue)
    assert statistics.below(one, 0.02) == pytest.approx(stats.ttest_1samp(one, 0.02, alternative="less").pvalue)
    assert statistics.two_sided(one) == pytest.approx(stats.ttest_1samp(one, 0.0).pvalue)


def test_equivalence_is_two_one_sided_tests_and_the_90_percent_interval_says_the_same() -> None:
    one = [0.004, -0.003, 0.002, 0.001, -0.001]
    low, high = stats.ttest_1samp(one, 0.0).confidence_interval(0.90)
    for margin in (0.001, max(abs(low), abs(high)) * 0.999, max(abs(low), abs(high)) * 1.001, 0.05):
        p = max(
            stats.ttest_1samp(one, -margin, alternative="greater").pvalue,
            stats.ttest_1samp(one, margin, alternative="less").pvalue,
        )
        assert statistics.equivalence(one, margin) == pytest.approx(p)
        assert (p < 0.05) == (-margin < low and high < margin)


def test_one_value_and_equal_values_are_told_apart_without_warnings() -> None:
    assert math.isnan(statistics.interval([0.5]).low)
    assert statistics.above([0.5], 0.0) == 1.0
    assert statistics.two_sided([0.2, 0.2, 0.2]) == 0.0
    assert statistics.two_sided([0.0, 0.0, 0.0]) == 1.0
    assert statistics.equivalence([0.0, 0.0], 0.01) == 0.0


def test_holm_rejects_what_stepping_down_rejects() -> None:
    ps = [0.011, 0.04, 0.003, 0.20, 0.013]
    adjusted, level = statistics.holm(ps), 0.05
    rejected = set()
    for rank, place in enumerate(np.argsort(ps)):  # Holm's own procedure
        if ps[place] > level / (len(ps) - rank):
            break
        rejected.add(int(place))
    assert {place for place, p in enumerate(adjusted) if p <= level} == rejected
    assert all(new >= old for new, old in zip(adjusted, ps, strict=True))
    assert statistics.holm([]) == []


@pytest.mark.parametrize(("count", "expected"), [(3, 3.3), (5, 1.7), (10, 1.0)])
def test_what_can_be_detected(count: int, expected: float) -> None:
    effect = statistics.detectable(count)
    assert effect == pytest.approx(expected, abs=0.05)
    draws = np.random.default_rng(0).normal(effect, 1.0, (4000, count))  # eighty of a hundred experiments see it
    seen = np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05)
    assert seen == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("effect", [5.0, 1.7, 0.6, 0.2])
def test_so_many_seeds_find_an_effect_and_one_less_does_not(effect: float) -> None:
    count = statistics.seeds_for(effect)
    assert count is not None
    assert statistics.detectable(count) <= effect
    assert statistics.detectable(count - 1) > effect
    assert statistics.seeds_for(0.05) is None
    assert statistics.seeds_for(0.0) is None


def test_the_expected_best_is_the_mean_over_all_choices() -> None:
    values = [0.3, 0.9, 0.5, 0.7, 0.7]
    for count in range(1, 6):
        every = [max(chosen) for chosen in combinations(values, count)]
        assert statistics.expected_best(values, count) == pytest.approx(np.mean(every))


def test_sums_and_spreads_of_huge_numbers_are_infinite_or_nan_and_never_raise() -> None:
    assert statistics.total([1e308, 1e308]) == math.inf
    assert math.isnan(statistics.total([math.inf, -math.inf]))
    assert statistics.total([1e16, 1.0, -1e16]) == 1.0  # exact, as fsum
    assert statistics.spread([0.0, 2.6e154]) == math.inf
    assert statistics.interval([0.0, 2.6e154]).high == math.inf
