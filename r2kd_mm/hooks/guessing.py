"""The accuracy of a network that guesses."""

import math

CHANCE_DEVIATIONS = 3  # a network that guesses exceeds this many standard deviations once in 740 times


def chance_limit(classes: int, count: int) -> float:
    """Return the largest accuracy in percent that guessing among ``classes`` reaches on ``count`` images.

    It lies three standard deviations above ``100 / classes``. Of so few images that this is more than half the way to
    100, nobody can tell, and the limit is ``100 / classes`` itself.

    Example:
        >>> round(chance_limit(2, 900), 6), chance_limit(2, 9)
        (55.0, 50.0)
    """
    chance = 1 / classes
    margin = CHANCE_DEVIATIONS * math.sqrt(chance * (1 - chance) / count)
    return 100 * (chance + margin if margin < (1 - chance) / 2 else chance)
