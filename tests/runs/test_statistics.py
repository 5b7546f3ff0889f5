"""Spread and paired differences equal scipy and values computed by hand."""

import math

import pytest
from scipy import stats

from r2kd_mm.runs import paired_difference, spread
from r2kd_mm.runs.statistics import seed_interval


def test_spread_by_hand():
    result = spread([1.0, 2.0, 6.0])
    assert result.mean == 3
    assert result.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))


def test_a_single_value_has_no_spread():
    assert spread([5.0]).mean == 5
    assert spread([5.0]).std is None


def test_the_interval_is_that_of_a_paired_t_test():
    ours = {0: 80.1, 1: 83.4, 2: 79.9, 3: 84.0, 4: 81.2}
    baseline = {0: 78.2, 1: 81.9, 2: 80.3, 3: 80.8, 4: 80.0}
    result = paired_difference(ours, baseline)
    expected = stats.ttest_rel(list(ours.values()), list(baseline.values())).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert result.mean == pytest.approx(sum(ours.values()) / 5 - sum(baseline.values()) / 5)


def test_three_seeds_by_hand():
    result = paired_difference({0: 3.0, 1: 7.0, 2: 5.0}, {0: 1.0, 1: 1.0, 2: 1.0})
    # quantile p of t with 2 degrees of freedom: (2 p - 1) / sqrt(2 p (1 - p)); times std / sqrt(3)
    half_width = 0.95 / math.sqrt(2 * 0.975 * 0.025) * 2 / math.sqrt(3)
    assert (result.low, result.high) == pytest.approx((4 - half_width, 4 + half_width))


@pytest.mark.parametrize('values', [[3.0], [3.0, 7.0], [4.0, 4.0, 4.0]])
def test_few_seeds_and_equal_ones_have_no_interval(values):
    assert seed_interval(values) is None
    result = paired_difference(dict(enumerate(values)), dict.fromkeys(range(3), 1.0))
    assert (result.mean, result.low, result.high) == (sum(values) / len(values) - 1, None, None)


def test_values_are_paired_by_seed_and_others_left_out():
    result = paired_difference({2: 12.0, 0: 10.0, 9: 99.0}, {0: 9.0, 2: 10.0, 5: -99.0})
    assert result.mean == 1.5
    assert result.count == 2


def test_without_a_common_seed_there_is_no_difference():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
