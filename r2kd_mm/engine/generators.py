"""Find and seed the random generators that a data set or transform owns, such as a ``numpy.random.RandomState``.

The global generators of ``random``, numpy and torch are left out.
"""

from __future__ import annotations

import copy
import functools
import logging
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand

GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
# Generators of the process, which are seeded elsewhere.
SHARED = [random._inst, mtrand._rand, torch.default_generator]  # type: ignore[attr-defined]  # not in the stubs
LEAVES = (str, bytes, int, float, complex, np.ndarray, torch.Tensor, type, ModuleType, BuiltinFunctionType)
MAX_LENGTH = 64  # a longer list or dict is data, not a pipeline


def own_generators(part: Any) -> list[Any]:
    """Return the random generators that a data set or transform holds, without the global generators, in a fixed order.

    Args:
        part: Data set or transform. The search covers nested attributes, variables in closures, and the classes and
            modules of its transforms. Lists of more than :data:`MAX_LENGTH` entries count as data and are skipped.

    Returns:
        Generators of the types in :data:`GENERATORS`.
    """
    return [value for value in _values_within(part) if isinstance(value, GENERATORS)]


def seed_generators(generators: Sequence[Any], seed: int) -> None:
    """Seed the ``generators`` with ``seed + 1``, ``seed + 2`` and so on."""
    for own, generator in enumerate(generators, start=seed + 1):
        if isinstance(generator, np.random.Generator):
            bits: Any = generator.bit_generator
            bits.state = type(bits)(own).state
        elif isinstance(generator, torch.Generator):
            generator.manual_seed(own)
        else:
            generator.seed(own % 2**32)  # all that RandomState takes


def without_traces(part: Any) -> Any:
    """Copy ``part`` so that its use changes nothing in the original; large data are shared.

    A part that cannot be copied is returned as it is.
    """
    kept = (ModuleType, logging.Logger)
    shared = {id(value): value for value in _values_within(part) if _is_data(value) or isinstance(value, kept)}
    try:
        return copy.deepcopy(part, shared)
    except Exception:  # what a foreign class raises
        return part


def _values_within(part: Any) -> Iterator[Any]:
    seen, waiting = set(map(id, SHARED)), [part]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if not isinstance(value, (*LEAVES, *GENERATORS, logging.Logger)) and not _is_data(value):
            waiting.extend(reversed(list(_parts(value))))


def _is_data(value: Any) -> bool:
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return len(value) > MAX_LENGTH
    return isinstance(value, (np.ndarray, torch.Tensor))


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield value.__self__
    elif isinstance(value, FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or () if cell != type(cell)())
        yield from _generators_of(value.__globals__, value.__code__.co_names)
    else:
        for cls in type(value).__mro__:
            yield from (getattr(value, name) for name in vars(cls).get('__slots__', ()) if hasattr(value, name))
            yield from _generators_of(vars(cls))
        yield from vars(value).values() if hasattr(value, '__dict__') else ()
        yield from _generators_of(vars(sys.modules.get(type(value).__module__, type(value))))


def _generators_of(namespace: Mapping[str, Any], names: Sequence[str] | None = None) -> list[Any]:
    values = list(namespace.values()) if names is None else [namespace.get(name) for name in names]
    return [value for value in values if isinstance(value, GENERATORS)]
