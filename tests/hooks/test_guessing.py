"""The accuracy that random guessing can reach on a number of images."""

import math

import pytest

from r2kd_mm.hooks.guessing import chance_limit


@pytest.mark.parametrize(('classes', 'count'), [(2, 2), (2, 8), (3, 3), (10, 3)])
def test_of_too_few_images_it_is_the_chance_itself(classes, count):
    assert chance_limit(classes, count) == pytest.approx(100 / classes)


def test_the_limit_is_three_deviations_of_a_guess():
    assert chance_limit(4, 100) == pytest.approx(100 * (0.25 + 3 * math.sqrt(0.25 * 0.75 / 100)))
