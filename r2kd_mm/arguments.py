"""Check arguments that a config sets, such as loss weights and switches; the error names the wrong argument."""

import math
from numbers import Real


def check_positive(**values: float) -> None:
    """Raise a ``ValueError`` if an argument is not a positive finite number; the message names the argument.

    >>> check_positive(temperature=0)
    Traceback (most recent call last):
    ValueError: temperature must be a positive finite number, got 0
    """
    for name, value in values.items():
        if not (is_number(value) and 0 < value < math.inf):
            raise ValueError(f'{name} must be a positive finite number, got {value!r}')


def check_weights(**values: float) -> None:
    """Raise a ``ValueError`` if an argument is not a finite number of 0 or more; the message names the argument.

    >>> check_weights(loss_weight=-1.0)
    Traceback (most recent call last):
    ValueError: loss_weight must be a finite number of 0 or more, got -1.0
    """
    for name, value in values.items():
        if not (is_number(value) and 0 <= value < math.inf):
            raise ValueError(f'{name} must be a finite number of 0 or more, got {value!r}')


def check_switches(**values: bool) -> None:
    """Raise a ``ValueError`` if an argument is neither True nor False; the message names the argument.

    >>> check_switches(per_image='no')  # a string that is not empty would count as True
    Traceback (most recent call last):
    ValueError: per_image must be True or False, got 'no'
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be True or False, got {value!r}')


def is_number(value: object) -> bool:
    """Tell whether ``value`` is a number; True and False are not.

    >>> is_number(2.5), is_number(True)
    (True, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)
