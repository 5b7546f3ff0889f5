"""Describe everything that determines a teacher's logits, to detect stored logits that no longer apply."""

from __future__ import annotations

import copyreg
import functools
import hashlib
import inspect
import json
import logging
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from r2kd_mm.checkpoint import digest_of_file
from r2kd_mm.engine.generators import GENERATORS

INSTALLED = (sysconfig.get_path('stdlib'), sysconfig.get_path('purelib'), str(Path(__file__).parents[1]))
PLAIN = (str, int, float, complex, bytes, type(None), type(Ellipsis))
# What decides no logits: places, names, and generators, which are seeded for each sample.
NAMED = (ModuleType, logging.Logger, BuiltinFunctionType, torch.device, *GENERATORS)
# What a module of torch keeps for itself: hooks, caches, its mode.
_OF_MODULES = frozenset(vars(nn.Module()))


def describe(part: Any) -> str:
    """Return a string that describes the configuration of ``part``; equal parts give equal strings in any process.

    Args:
        part: A config or a ready part: an augmentation, a pruner, a transform, a network. The string
            holds the class and all attributes of an object, not its ``repr``. Arrays and weights give a digest. A
            string that names a local file gives a digest of the file too. Classes and functions that are not installed
            give a digest of their source.

    Raises:
        TypeError: A value in ``part`` has neither attributes nor a state.

    Example:
        >>> describe(dict(amount=0.1))
        '{"amount": "float 0.1"}'
        >>> describe(nn.Linear(2, 1)) == describe(nn.Linear(2, 1))  # other weights
        False
    """
    return json.dumps(_described(part, {}), sort_keys=True)


def digest_of_weights(network: nn.Module) -> str:
    """Return the SHA-256 of the names and values of a network's state.

    Example:
        >>> digest_of_weights(nn.Identity()) == digest_of_weights(nn.Identity())
        True
    """
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _described(value: Any, known: dict[int, tuple[Any, Any]]) -> Any:
    """A value as JSON takes it.

    Args:
        value: Anything.
        known: By id, each value that was met and its description. It keeps them, so that ids stay theirs.
    """
    if isinstance(value, PLAIN):
        return _described_text(value) if isinstance(value, str) else f'{type(value).__name__} {value!r}'
    if id(value) not in known:
        known[id(value)] = value, 'within itself'
        known[id(value)] = value, _described_parts(value, known)
    return known[id(value)][1]


def _described_parts(value: Any, known: dict[int, tuple[Any, Any]]) -> Any:
    def described(part: Any) -> Any:
        return _described(part, known)

    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return f'array {value.dtype} {tuple(value.shape)} {hashlib.sha256(_bytes(value)).hexdigest()}'
    if isinstance(value, NAMED):
        return f'{_path(type(value))} {getattr(value, "__name__", "")}'
    if isinstance(value, Path):
        return _described_text(str(value))
    if isinstance(value, type):
        return _described_source(value)
    if isinstance(value, FunctionType):
        constants = [constant for constant in value.__code__.co_consts if isinstance(constant, PLAIN)]
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != type(cell)()]
        code = value.__code__.co_code.hex()
        return [*_described_source(value), code, *map(described, (constants, value.__defaults__, cells))]
    if isinstance(value, Mapping):
        return {_described_key(key): described(value[key]) for key in sorted(value, key=_described_key)}
    if isinstance(value, (list, tuple)):
        return list(map(described, value))
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(described(item), sort_keys=True) for item in value)
    if isinstance(value, functools.partial):
        return list(map(described, (value.func, value.args, value.keywords)))
    if isinstance(value, MethodType):
        return [value.__name__, described(value.__self__)]
    return [*_described_source(type(value)), described(_state(value))]


def _described_text(text: str) -> str:
    is_file = len(text) < 4096 and '\n' not in text and '.' in text and Path(text).is_file()
    return f'{text!r} {digest_of_file(text)}' if is_file else repr(text)


def _described_key(key: Any) -> str:
    return key if isinstance(key, str) else f'{type(key).__name__} {key!r}'


def _described_source(code: Any) -> list[str]:
    """The name of a class or function, and of one that is not installed its source."""
    described = [_path(code)]
    try:
        if not (inspect.getsourcefile(code) or '').startswith(INSTALLED):
            described.append(hashlib.sha256(inspect.getsource(code).encode()).hexdigest())
            bases = code.__bases__ if isinstance(code, type) else ()
            described += [text for base in bases if base is not object for text in _described_source(base)]
    except (OSError, TypeError):  # built in, or written in a console
        pass
    return described


def _state(value: Any) -> Any:
    """Return the attributes of an object, without what its use leaves behind."""
    if isinstance(value, nn.Module):
        own = {name: item for name, item in vars(value).items() if name not in _OF_MODULES}
        return dict(own, parts=[value._parameters, value._buffers, value._modules])
    slots = [name for cls in type(value).__mro__ for name in _slots(cls) if hasattr(value, name)]
    if hasattr(value, '__dict__') or slots:
        return {**getattr(value, '__dict__', {}), **{name: getattr(value, name) for name in slots}}
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        return list(value.__reduce_ex__(4) if reduce is None else reduce(value))
    except TypeError:
        raise TypeError(
            f'nobody knows what a {_path(type(value))} is made of, so a replay would not notice a change of it; give '
            'the part that has it as a config, or without it'
        ) from None


def _slots(cls: type) -> list[str]:
    slots = vars(cls).get('__slots__', ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ('__dict__', '__weakref__')]


def _path(code: Any) -> str:
    return f'{code.__module__}.{code.__qualname__}'


def _bytes(value: Tensor | np.ndarray | np.generic) -> Any:
    if not isinstance(value, Tensor):
        return np.ascontiguousarray(value).tobytes() if value.dtype != object else repr(value.tolist()).encode()
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
