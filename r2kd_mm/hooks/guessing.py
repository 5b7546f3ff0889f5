"""Compute the accuracy up to which a network counts as guessing at random, from the numbers of classes and images."""

import math

CHANCE_DEVIATIONS = 3  # a network that guesses exceeds this many standard deviations once in 740 times


def chance_limit(classes: int, count: int) -> float:
    """Return the accuracy in percent up to which a network counts as guessing, for ``classes`` and ``count`` images.

    The limit is three standard deviations above ``100 / classes``. With few images, this margin may exceed half of the
    distance from ``100 / classes`` to 100. Then the limit is ``100 / classes``, without a margin.

    Example:
        >>> round(chance_limit(2, 900), 6), chance_limit(2, 9)
        (55.0, 50.0)
    """
    chance = 1 / classes
    margin = CHANCE_DEVIATIONS * math.sqrt(chance * (1 - chance) / count)
    return 100 * (chance + margin if margin < (1 - chance) / 2 else chance)
