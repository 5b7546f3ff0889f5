"""Checks of the arguments that a config gives: one clear error for each slip."""

import math
from numbers import Real


def check_positive(**values: float) -> None:
    """Raise ``ValueError`` that names the first of ``values`` which is not a positive finite number."""
    for name, value in values.items():
        if not (is_number(value) and 0 < value < math.inf):
            raise ValueError(f'{name} must be a positive finite number, got {value!r}.')


def check_weights(**values: float) -> None:
    """Raise ``ValueError`` that names the first of ``values`` which is not a finite number of 0 or more."""
    for name, value in values.items():
        if not (is_number(value) and 0 <= value < math.inf):
            raise ValueError(f'{name} must be a finite number of 0 or more, got {value!r}.')


def check_switches(**values: bool) -> None:
    """Raise ``ValueError`` that names the first of ``values`` which is neither True nor False: ``'no'`` would be on."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be True or False, got {value!r}.')


def is_number(value: object) -> bool:
    """Tell whether ``value`` is a number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)
