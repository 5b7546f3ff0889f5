"""Convert values to plain types (numbers, strings, tensors, lists, dicts) before they are saved in a checkpoint.

On reading, refuse other types except MMEngine's log statistics, because unpickling them could run code.
"""

from __future__ import annotations

import codecs
import enum
import functools
import os
import pickle
import re
import types
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

# Names that weights_only of the newest torch allows and torch 2.1 does not. A pickle of protocol 2 holds bytes by
# _codecs.encode, and MultiStepLR holds its milestones in a Counter.
PLAIN_TYPES = {
    'collections.Counter': Counter,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    '_codecs.encode': codecs.encode,
    'builtins.bytearray': bytearray,
    'builtins.complex': complex,
    'builtins.set': set,
}
# Types that a checkpoint may hold, and functions, which are not part of the state of a scheduler.
PLAIN_LEAVES = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.device, torch.dtype, HistoryBuffer}
PLAIN_DICTS = {dict, OrderedDict, Counter}
FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)


def plain(value: Any, name: str = 'meta') -> Any:
    """Convert ``value`` to plain types: tensors, numbers and strings, in lists, tuples, sets and dicts.

    A plain value is returned as it is. Paths become strings, numpy scalars become numbers, deques become lists, and
    subclasses of dict become dicts. Functions are left out of ``param_schedulers``, because the config restores them. A
    deque in the state of a scheduler or an optimizer is refused: after a resume it would be a list without ``maxlen``.

    Args:
        value: Any part of a checkpoint.
        name: Place of the part, such as ``'meta.dataset_meta'``. In ``meta``, which is only read, any other object is
            converted by ``str``.

    Raises:
        TypeError: A part outside of ``meta`` holds an object that is not plain.

    >>> plain({'root': Path('data'), 'classes': ('cat', 'dog')})
    {'root': 'data', 'classes': ('cat', 'dog')}
    """
    kind = type(value)
    if kind in PLAIN_LEAVES or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, dict):
        state = [
            (key, item)
            for key, item in value.items()
            if not (name.startswith('param_schedulers') and isinstance(item, FUNCTIONS))
        ]
        items = [(plain(key, name), plain(item, f'{name}.{key}')) for key, item in state]
        is_plain = kind in PLAIN_DICTS and len(state) == len(value)
        same = all(one[0] is other[0] and one[1] is other[1] for one, other in zip(items, state))
        return value if is_plain and same else dict(items)
    is_state = name.startswith(('param_schedulers', 'optimizer'))
    if isinstance(value, (list, tuple, set, frozenset, range)) or (isinstance(value, deque) and not is_state):
        parts = [plain(item, f'{name}.{place}') for place, item in enumerate(value)]
        target = next((base for base in (tuple, set) if isinstance(value, base)), list)
        if kind is target and all(part is item for part, item in zip(parts, value)):
            return value
        return set(parts) if kind is frozenset else target(parts)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biufc':
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist(), name)
    if isinstance(value, enum.Enum):
        return plain(value.value, name)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    kinds: tuple[Any, ...] = (str, bytes, int, float)
    for base in kinds:
        if isinstance(value, base):
            return base(value)
    if name.partition('.')[0] == 'meta':
        return str(value)
    raise TypeError(
        f'{name} of the checkpoint is a {kind.__module__}.{kind.__qualname__}, which no reader of checkpoints accepts; '
        'let what puts it there save numbers, texts and tensors, in lists and dicts'
    )


def load_restricted(path: Path, map_location: Any) -> Any:
    """Load a file of torch.save that holds only tensors, plain values and the statistics of MMEngine's message hub.

    Raises:
        UnpicklingError: The file wants another object built; :func:`forbidden_name` reads its name from the error.
    """
    if _safe_globals_take_names():
        allowed: list[Any] = [(obj, name) for name, obj in _allowed_globals().items()]
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location=map_location, weights_only=True)
    # older ones have weights_only but no way to allow HistoryBuffer; the same rule as an unpickler of our own
    restricted = types.SimpleNamespace(
        __name__='pickle',
        Unpickler=RestrictedUnpickler,
        load=lambda file, **options: RestrictedUnpickler(file, **options).load(),
    )
    return torch.load(path, map_location=map_location, pickle_module=restricted, weights_only=False)


def _safe_globals_take_names() -> bool:
    return digit_version(torch.__version__) >= digit_version('2.6.0')


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that only finds the names that torch's ``weights_only`` and ``_allowed_globals`` allow."""

    def find_class(self, module: str, name: str) -> Any:
        from torch._weights_only_unpickler import _get_allowed_globals

        allowed = {**_get_allowed_globals(), **_allowed_globals(), **PLAIN_TYPES}
        module = module.replace('__builtin__', 'builtins')  # its name in the pickle protocol that torch.save uses
        try:
            return allowed[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {module}.{name}') from None


@functools.cache
def _allowed_globals() -> dict[str, Any]:
    """Return the parts of the message hub in a checkpoint of the Runner, by their names in the pickle.

    numpy 2 renamed ``numpy.core`` to ``numpy._core``; both versions read the files of both.
    """
    reconstruct, scalar = np.ndarray(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    allowed = {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'builtins.getattr': _getattr_of_history_buffer,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    for core in ('numpy.core', 'numpy._core'):
        allowed[f'{core}.multiarray._reconstruct'] = reconstruct
        allowed[f'{core}.multiarray.scalar'] = scalar
    for code in '?' + np.typecodes['AllInteger'] + 'efdFD':
        dtype = type(np.dtype(code))
        allowed[f'{dtype.__module__}.{dtype.__qualname__}'] = dtype
    return allowed


def _getattr_of_history_buffer(obj: Any, name: str) -> Callable:
    """Replace ``getattr``, by which a pickled HistoryBuffer refers to its four statistics, and allow only these."""
    if obj is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(obj, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {name}')


def forbidden_name(error: pickle.UnpicklingError) -> str | None:
    """Return the name that the unpickler refused, or ``None`` for another error."""
    found = re.search(r'(?:GLOBAL|reduce for unrecognized function) ([^\s;]+)', str(error))
    return found.group(1) if found else None
