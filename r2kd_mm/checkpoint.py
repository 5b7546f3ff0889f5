"""Read checkpoints without running code out of them; take out the weights; identify a file."""

from __future__ import annotations

import codecs
import enum
import functools
import hashlib
import os
import pickle
import re
import struct
import types
import zipfile
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.utils import digit_version
from torch import Tensor

from r2kd_mm.tensor_files import SAFETENSORS, read_safetensors

# What DistributedDataParallel and the checkpoint of a distiller, ours or one of mmrazor's, put before a name.
PARALLEL_PREFIX = 'module.'
COMPILED_PREFIX = '_orig_mod.'  # of torch.compile
STUDENT_PREFIX = 'architecture.'
# Where a checkpoint holds its weights, the first one that is there; and what an average counts beside its weights.
WEIGHT_KEYS = ('state_dict', 'model', 'model_ema', 'state_dict_ema')
COUNTERS = ('steps', 'n_averaged')
# what weights_only of the newest torch allows besides tensors, and that of torch 2.1 does not; _codecs.encode is how a
# pickle of protocol 2 holds bytes, and a Counter how MultiStepLR holds its milestones
PLAIN_TYPES = {
    'collections.Counter': Counter,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    '_codecs.encode': codecs.encode,
    'builtins.bytearray': bytearray,
    'builtins.complex': complex,
    'builtins.set': set,
}
# What a checkpoint may hold, and what of a scheduler is no state.
PLAIN_LEAVES = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.device, torch.dtype, HistoryBuffer}
PLAIN_DICTS = {dict, OrderedDict, Counter}
FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
ZIP_FOLDER_FLAG = 0x10  # in the attributes of a record, as in those of MS-DOS
# In a checkpoint of MMEngine's EMAHook; its raw weights, despite the name: those in 'state_dict' are averaged.
AVERAGED = 'ema_state_dict'


def select_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a network in a loaded checkpoint; of a distillation, the student's.

    Args:
        checkpoint: That of a Runner, ``{'model': weights}``, or the weights by name.

    Raises:
        ValueError: There are no weights in it.
    """
    weights = held_weights(checkpoint)
    student = {
        key.removeprefix(STUDENT_PREFIX): weight for key, weight in weights.items() if key.startswith(STUDENT_PREFIX)
    }
    return student or dict(weights)  # beside its student, a distiller has losses, and one of mmrazor its teacher


def held_weights(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """All weights in a loaded checkpoint, without the prefix of a wrapper.

    Where a file holds several sets of them, such as raw and averaged ones, the log says which is taken.

    Args:
        checkpoint: That of a Runner, ``{'model': weights}``, or the weights by name.

    Raises:
        ValueError: There are no weights in it.
    """
    taken = next((key for key in WEIGHT_KEYS if key in checkpoint), None)
    weights = checkpoint if taken is None else checkpoint[taken]
    others = [key for key, value in checkpoint.items() if key != taken and _are_weights(value)]
    if not _are_weights(weights):
        advice = f"; to take {others[0]!r}, add '#{others[0]}' to the path" if others else ''
        raise ValueError(
            "this checkpoint holds no weights: expected {'model': weights}, {'state_dict': weights} or the weights by "
            f'name, got a dict with the keys {sorted(map(str, checkpoint))[:5]}{advice}'
        )
    if others:
        average = ', which EMAHook has averaged' if taken == 'state_dict' and AVERAGED in others else ''
        print_log(
            f'The checkpoint holds several sets of weights. Taken: {taken}{average}. Not taken: {", ".join(others)}; '
            f"to take one of these, add its name to the path, as in '#{others[0]}'.",
            logger='current',
        )
    return _unwrapped(weights)


def split_weights_name(path: str | os.PathLike) -> tuple[str, str | None]:
    """A path or URL of a checkpoint, and the set of weights in it that is named after a ``#``, if one is.

    >>> split_weights_name('resnet18.pth#state_dict_ema')
    ('resnet18.pth', 'state_dict_ema')
    >>> split_weights_name('resnet18.pth')
    ('resnet18.pth', None)
    """
    text = str(path)
    if '#' not in text or Path(text).expanduser().exists():
        return text, None
    place, _, name = text.rpartition('#')
    return place, name


def with_state_dict(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A loaded checkpoint with its weights as ``state_dict``, where MMEngine and its hooks look for them.

    Raises:
        ValueError: There are no weights in it.
    """
    return checkpoint if 'state_dict' in checkpoint else _with_weights(checkpoint, held_weights(checkpoint))


def _with_weights(checkpoint: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    rest = {key: value for key, value in checkpoint.items() if not (isinstance(value, Tensor) or _are_weights(value))}
    return {**rest, 'state_dict': weights}


def _only(checkpoint: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    """A checkpoint with one of its sets of weights, as ``state_dict``, and without the others."""
    if not _are_weights(checkpoint.get(name)):
        held = [key for key, value in checkpoint.items() if _are_weights(value)]
        raise ValueError(
            f'checkpoint {path!r} holds no weights called {name!r}; it holds {", ".join(held) or "the weights by name"}'
        )
    return _with_weights(checkpoint, _unwrapped(checkpoint[name]))


def _unwrapped(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights without the prefix of DistributedDataParallel, an average or torch.compile, and without its counters."""
    names = [name for name in weights if name not in COUNTERS]
    for prefix in (PARALLEL_PREFIX, COMPILED_PREFIX):
        if all(name.startswith(prefix) for name in names):
            return _unwrapped({name.removeprefix(prefix): weights[name] for name in names})
    return weights


def _are_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(weight, Tensor) for weight in value.values())


def digest_of_file(path: str) -> str:
    """SHA-256 of a local file, with the name of a set of weights in it; of the name, where it is a URL."""
    place, name = split_weights_name(path)
    if not Path(place).is_file():
        return path
    digest = hashlib.sha256()
    with open(place, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest() + ('' if name is None else f'#{name}')


def load_checkpoint_file(path: str | os.PathLike, map_location: Any = 'cpu') -> dict:
    """Load a checkpoint that may hold tensors, plain values and what MMEngine's Runner adds, and nothing that acts.

    torch.save keeps a CRC-32 of each record of the file, which torch.load does not look at; it is verified here, before
    anything is unpickled. It finds every accident with a probability of 1 - 2**-32 a record, and each one of up to 32
    bits in a row; it is no protection against intent, for which what may be loaded is restricted. Files of the format
    before torch 1.6, and those written with ``torch.serialization.set_crc32_options(False)``, have none.

    Args:
        path: The file; ``~`` is expanded. After a ``#`` it may name one of several sets of weights in the file, as in
            ``'resnet18.pth#state_dict_ema'``.
        map_location: Where the tensors go, as in :func:`torch.load`.

    Returns:
        The dict in the file, which is a checkpoint of the Runner or a bare state dict; where a set of weights is named,
        that one as ``'state_dict'``, and no other.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is a folder, is empty, is cut off, is damaged, is no checkpoint, or wants other objects
            built.
    """
    path, name = split_weights_name(path)
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f'checkpoint {str(path)!r} is a folder; name the file in it, such as epoch_10.pth')
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {str(path)!r} does not exist; check the path')
    if path.stat().st_size == 0:
        raise ValueError(f'checkpoint {str(path)!r} is empty; copy or download it again')
    if path.suffix == SAFETENSORS:
        weights = read_safetensors(path, map_location)
        return dict(weights) if name is None else _only(weights, name, str(path))
    with path.open('rb') as file:
        is_archive = file.read(4) == b'PK\x03\x04'
    if is_archive:
        _verify_archive(path)
    try:
        checkpoint = _load_restricted(path, map_location)
    except pickle.UnpicklingError as error:
        forbidden = _forbidden_name(error)
        if forbidden is None:
            raise _no_checkpoint(path, error) from error
        raise ValueError(
            f'checkpoint {str(path)!r} is refused: it wants {forbidden} called or built while it loads, and a '
            'checkpoint may hold only tensors and plain values. Do not use it unless you know who wrote it; if you do, '
            "load it once with torch.load(path, weights_only=False) and save {'state_dict': ...} alone"
        ) from error
    except (
        RuntimeError,
        EOFError,
        KeyError,
        AttributeError,
        IndexError,
        TypeError,
        ValueError,
        ModuleNotFoundError,
        AssertionError,
    ) as error:  # whatever the bytes of another kind of file happen to provoke
        if 'Attempting to deserialize object on' in str(error):  # a sound file for a device that is not here
            raise
        raise _no_checkpoint(path, error) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'checkpoint {str(path)!r} holds one {type(checkpoint).__name__}; expected a dict of weights, or '
            "a dict with the key 'state_dict'"
        )
    meta: Any = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop('config', None)  # see compat.load_checkpoints_safely; MMEngine itself writes 'cfg'
    return checkpoint if name is None else _only(checkpoint, name, str(path))


def _verify_archive(path: Path) -> None:
    """Refuse a file of torch.save whose end is missing, or one of whose records is not as it was written."""
    try:
        whole = zipfile.is_zipfile(path)  # the table of contents stands at the end of the file
        fault = _fault_in_archive(path) if whole else 'cut off: its end is missing'
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, struct.error) as error:
        fault = f'damaged ({error})'
    if fault:
        raise ValueError(f'checkpoint {str(path)!r} is {fault}; copy or download it again')


def _fault_in_archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        # of what is marked as a folder, torch reads nothing, and returns whatever was in the memory
        folder = next((record.filename for record in records if record.external_attr & ZIP_FOLDER_FLAG), None)
        if folder is not None:
            return f'damaged: it has {folder} marked as a folder'
        has_checksums = any(record.CRC for record in records)
        torn = archive.testzip() if has_checksums else None
    return f'damaged: the checksum of {torn} is wrong' if torn else None


def load_from_local(filename: str, map_location: Any) -> dict:
    """:func:`load_checkpoint_file` as a scheme of MMEngine's loader, whose log shows the name from character 11 on."""
    return load_checkpoint_file(filename, map_location)


def load_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True) -> dict:
    """Download a checkpoint once into the cache of torch.hub, then :func:`load_checkpoint_file` it.

    Args:
        url: Where the file is; its last part is its name in the cache.
        model_dir: The cache folder; None means ``checkpoints`` in :func:`torch.hub.get_dir`.
        map_location: Where the tensors go, as in :func:`torch.load`.
        progress: Show a progress bar on stderr.
    """
    url, name = split_weights_name(url)
    folder = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints')
    folder.mkdir(parents=True, exist_ok=True)
    cached = folder / Path(urlparse(url).path).name
    if not cached.exists():
        try:
            torch.hub.download_url_to_file(url, str(cached), progress=progress)
        except OSError as error:
            raise ValueError(
                f'checkpoint {url!r} cannot be downloaded ({error}); check the address and the connection, '
                'or download it elsewhere and give its path'
            ) from error
    return load_checkpoint_file(cached if name is None else f'{cached}#{name}', map_location)


def _load_restricted(path: Path, map_location: Any) -> Any:
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
    """Finds the names that torch's own ``weights_only`` allows and those of ``_allowed_globals``, and no other."""

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
    """What the message hub in a checkpoint of the Runner is made of, by the name that the pickle uses.

    numpy 2 renamed ``numpy.core`` to ``numpy._core``; files of either are read by either.
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
    """Stand in for ``getattr``, by which a pickled HistoryBuffer refers to its four statistics and to nothing else."""
    if obj is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(obj, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {name}')


def _forbidden_name(error: pickle.UnpicklingError) -> str | None:
    """The name that the unpickler refused, or None where it failed for another reason."""
    found = re.search(r'(?:GLOBAL|reduce for unrecognized function) ([^\s;]+)', str(error))
    return found.group(1) if found else None


def _no_checkpoint(path: Path, error: Exception) -> ValueError:
    reason = str(error).split('WeightsUnpickler error:')[-1].strip()  # torch puts advice to its own users in front
    reason = reason.splitlines()[0] if reason else type(error).__name__
    return ValueError(
        f'{str(path)!r} is no checkpoint, or a damaged one ({reason}); expected a file that torch.save '
        'wrote: check the path, or copy or download it again'
    )


def plain(value: Any, name: str = 'meta') -> Any:
    """``value`` as a checkpoint holds it: tensors, numbers and texts, in lists, tuples, sets and dicts.

    What is plain already is returned as it is. Paths become texts, numpy's scalars numbers, deques lists, and other
    dicts plain ones. Functions are left out of ``param_schedulers``, whose owners have them from their config. A deque
    in the state of a scheduler or an optimizer is refused: after a resume it would be a list without its bound.

    Args:
        value: Any part of a checkpoint.
        name: Its place, such as ``'meta.dataset_meta'``. In ``meta``, which is only read, any other object becomes the
            text that it prints as.

    Raises:
        TypeError: Another part than ``meta`` holds an object that is not plain.

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
