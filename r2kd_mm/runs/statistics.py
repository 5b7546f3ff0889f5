"""Compute mean, spread and confidence interval of accuracies over seeds, and paired differences to a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest
from scipy.stats import t as student_t

CONFIDENCE = 0.95
FEWEST_SEEDS = 3  # that an interval over seeds needs


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (divisor ``n - 1``; ``None`` for a single value).

    Example:
        >>> spread([70.0, 72.0]).mean
        71.0
    """

    mean: float
    std: float | None


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, and its 95 % confidence interval, see ``seed_interval``.

    Example:
        >>> paired_difference({0: 71.0}, {0: 70.0})  # one seed has no interval
        Difference(mean=1.0, low=None, high=None, count=1)
    """

    mean: float
    low: float | None
    high: float | None
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Compute the mean and the standard deviation of at least one value.

    >>> spread([1.0, 2.0, 3.0])
    Spread(mean=2.0, std=1.0)
    """
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None)
    return Spread(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)))


def seed_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean over seeds, by Student's t.

    It covers the choice of the seed, not the choice of the images, which all runs share. Two seeds say too little
    for an interval, and equal values say nothing about the spread.

    Args:
        values: One value for each seed.

    Returns:
        ``None`` for fewer than :data:`FEWEST_SEEDS` values, and where all are equal.

    >>> seed_interval([70.0, 71.0]), seed_interval([70.0, 70.0, 70.0])
    (None, None)
    >>> [round(bound, 2) for bound in seed_interval([70.0, 71.0, 72.0])]
    [68.52, 73.48]
    """
    count = len(values)
    if count < FEWEST_SEEDS:
        return None
    found = spread(values)
    if not found.std:
        return None
    half_width = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1)) * found.std / math.sqrt(count)
    return found.mean - half_width, found.mean + half_width


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Compute the mean of ``values - baseline`` over the seeds that both have, with its interval.

    A seed decides the student's initial weights and the order of the images. Its effect on both methods cancels.

    >>> paired_difference({0: 71.0, 1: 72.0}, {0: 70.0, 1: 71.0, 2: 69.0})
    Difference(mean=1.0, low=None, high=None, count=2)

    Args:
        values: Seed to accuracy.
        baseline: Seed to accuracy of the baseline.

    Returns:
        ``None`` where no seed is common.
    """
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    differences = [values[seed] - baseline[seed] for seed in seeds]
    low, high = seed_interval(differences) or (None, None)
    return Difference(spread(differences).mean, low, high, len(seeds))


def accuracy_interval(accuracy: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy that was measured on ``count`` images, all in percent.

    >>> [round(bound, 1) for bound in accuracy_interval(100 * 80 / 96, 96)]
    [74.6, 89.5]
    """
    low, high = wilson_interval(round(accuracy / 100 * count), count)
    return 100 * low, 100 * high


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was counted on ``count`` images (Wilson, JASA 22, 1927).

    It covers the choice of the images, not the choice of the seed, and stays within 0 and 1.

    Args:
        correct: Number of images that were predicted right.
        count: Number of all images, at least 1.

    >>> [round(bound, 3) for bound in wilson_interval(80, 96)]
    [0.746, 0.895]
    """
    interval = binomtest(round(correct), count).proportion_ci(CONFIDENCE, method='wilson')
    return float(interval.low), float(interval.high)
