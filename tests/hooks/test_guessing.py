"""The accuracy that a guess reaches."""

import math

import pytest

from r2kd_mm.hooks.guessing import chance_limit


def test_the_limit_is_three_deviations_of_a_guess():
    assert chance_limit(4, 100) == pytest.approx(100 * (0.25 + 3 * math.sqrt(0.25 * 0.75 / 100)))
