"""The accuracy of a network that guesses."""

import math

CHANCE_DEVIATIONS = 3  # a network that guesses exceeds this many standard deviations once in 740 times


def chance_limit(classes: int, count: int) -> float:
    """Return the largest accuracy in percent that guessing among ``classes`` reaches on ``count`` images.

    It lies three standard deviations above ``100 / classes``.

    Example:
        >>> round(chance_limit(2, 900), 6)
        55.0
    """
    chance = 1 / classes
    return 100 * (chance + CHANCE_DEVIATIONS * math.sqrt(chance * (1 - chance) / count))
