"""Check that a class has parameters for all arguments that a config gives, before the class is called.

:func:`r2kd_mm.registry.build_component` and ``--cfg-options`` refuse an unknown argument with the list of the known
ones. When a run is resumed, a scheduler's parameter names tell its settings from the rest of its state.
"""

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable
from inspect import Parameter

VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)  # the kinds of *args and **kwargs


def check_arguments(cls: type | Callable, given: set[str], is_complete: bool = True) -> None:
    """Raise a ``TypeError`` that lists the parameters of ``cls`` if they do not include all ``given`` arguments.

    Args:
        cls: A class or a function.
        given: Names of arguments.
        is_complete: If true, ``given`` holds all arguments, so a missing required argument is an error too.

    Example:
        >>> check_arguments(dict.fromkeys, {'iterable'})  # written in C: nothing is known
        >>> def blur(image, radius=1): ...
        >>> check_arguments(blur, {'image', 'radios'})
        Traceback (most recent call last):
        TypeError: blur does not take 'radios'; its parameters are (image, radius=1); did you mean 'radius'?
    """
    known = parameters_of(cls)
    if known is None:
        return
    unknown = sorted(given - known.keys())
    own = inspect.signature(cls).parameters
    missing = [
        name
        for name, parameter in own.items()
        if parameter.default is parameter.empty and parameter.kind not in VARIABLE and name not in given
    ]
    if not is_complete or any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
        missing = []
    if not unknown and not missing:
        return
    problems = [f'does not take {", ".join(map(repr, unknown))}'] if unknown else []
    problems += [f'needs {", ".join(map(repr, missing))}'] if missing else []
    close = difflib.get_close_matches(unknown[0], known, n=1) if unknown else []
    guess = f'; did you mean {close[0]!r}?' if close else ''
    raise TypeError(
        f'{cls.__name__} {" and ".join(problems)}; its parameters are '
        f'({", ".join(str(parameter.replace(annotation=Parameter.empty)) for parameter in known.values())}){guess}'
    )


def parameters_of(cls: type | Callable) -> dict[str, Parameter] | None:
    """Return the parameters of a class or a function by name; ``None`` if it takes any name.

    The parameters of the base class count too if the constructor only passes its ``**kwargs`` to the base class.

    Example:
        >>> list(parameters_of(lambda size, *, depth=1: None))
        ['size', 'depth']
    """
    known: dict[str, Parameter] = {}
    if not inspect.isclass(cls):
        calls = [cls]
    else:
        calls = [vars(base)['__init__'] for base in cls.__mro__ if '__init__' in vars(base)]
    for call in calls:
        try:
            parameters = list(inspect.signature(call).parameters.values())[int(inspect.isclass(cls)) :]  # no self
        except ValueError:  # written in C
            return None
        for parameter in parameters:
            if parameter.kind not in VARIABLE:
                known.setdefault(parameter.name, parameter)
        rest = next((parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD), None)
        if rest is None:
            return known
        if not _only_passes_on(call, rest):
            return None
    return None


def _only_passes_on(constructor: Callable, kwargs: str) -> bool:
    """Tell whether a constructor uses its ``**kwargs`` only in a call of ``super()``; its source is parsed for this."""
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(constructor)))))
    except (OSError, TypeError, SyntaxError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).startswith('super(')]
    passed_on = [keyword.value for call in calls for keyword in call.keywords if keyword.arg is None]
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == kwargs]
    return len(uses) == 1 and uses[0] in passed_on
