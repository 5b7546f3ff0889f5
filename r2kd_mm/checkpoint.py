"""Load checkpoints without running code stored in them, select their weights, and identify a file by its SHA-256."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from torch import Tensor

from r2kd_mm.plain import forbidden_name, load_restricted
from r2kd_mm.tensor_files import SAFETENSORS, read_safetensors

# Prefixes of DistributedDataParallel, torch.compile and a distiller, ours or one of mmrazor's.
PARALLEL_PREFIX = 'module.'
COMPILED_PREFIX = '_orig_mod.'
STUDENT_PREFIX = 'architecture.'
# Keys of the weights in a checkpoint, the first one wins; and counters of an average among its weights.
WEIGHT_KEYS = ('state_dict', 'model', 'model_ema', 'state_dict_ema')
COUNTERS = ('steps', 'n_averaged')
ZIP_FOLDER_FLAG = 0x10  # in the attributes of a record, as in those of MS-DOS
# In a checkpoint of MMEngine's EMAHook; its raw weights, despite the name: those in 'state_dict' are averaged.
AVERAGED = 'ema_state_dict'


def select_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights in a loaded checkpoint; if a distiller saved it, return only the student's weights.

    Args:
        checkpoint: Checkpoint of a Runner, ``{'model': weights}``, or the weights by name.

    Raises:
        ValueError: The checkpoint holds no weights.

    Example:
        >>> list(select_weights({'state_dict': {'architecture.fc.bias': torch.zeros(1)}}))
        ['fc.bias']
    """
    weights = held_weights(checkpoint)
    student = {
        key.removeprefix(STUDENT_PREFIX): weight for key, weight in weights.items() if key.startswith(STUDENT_PREFIX)
    }
    return student or dict(weights)  # a distiller also has losses, and one of mmrazor also has its teacher


def held_weights(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return all weights in a loaded checkpoint, without the prefix of a wrapper.

    If a file holds several sets of weights, such as raw and averaged ones, the log states which set is taken.

    Args:
        checkpoint: Checkpoint of a Runner, ``{'model': weights}``, or the weights by name.

    Raises:
        ValueError: The checkpoint holds no weights.

    Example:
        >>> list(held_weights({'state_dict': {'module.fc.bias': torch.zeros(1)}}))
        ['fc.bias']
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
    """Split a path or URL into the file and the name of a set of weights after ``#``, if there is one.

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
    """Put the weights of a loaded checkpoint into ``state_dict``, where MMEngine and its hooks look for them.

    Raises:
        ValueError: The checkpoint holds no weights.

    Example:
        >>> list(with_state_dict({'model': {'fc.bias': torch.zeros(1)}, 'epoch': 3}))
        ['epoch', 'state_dict']
    """
    return checkpoint if 'state_dict' in checkpoint else _with_weights(checkpoint, held_weights(checkpoint))


def _with_weights(checkpoint: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    rest = {key: value for key, value in checkpoint.items() if not (isinstance(value, Tensor) or _are_weights(value))}
    return {**rest, 'state_dict': weights}


def _only(checkpoint: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    """Keep one set of weights of a checkpoint, as ``state_dict``, and drop the others."""
    if not _are_weights(checkpoint.get(name)):
        held = [key for key, value in checkpoint.items() if _are_weights(value)]
        raise ValueError(
            f'checkpoint {path!r} holds no weights called {name!r}; it holds {", ".join(held) or "the weights by name"}'
        )
    return _with_weights(checkpoint, _unwrapped(checkpoint[name]))


def _unwrapped(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Remove the prefix of DistributedDataParallel, an average or torch.compile, and the counters of an average."""
    names = [name for name in weights if name not in COUNTERS]
    for prefix in (PARALLEL_PREFIX, COMPILED_PREFIX):
        if all(name.startswith(prefix) for name in names):
            return _unwrapped({name.removeprefix(prefix): weights[name] for name in names})
    return weights


def _are_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(weight, Tensor) for weight in value.values())


def digest_of_file(path: str) -> str:
    """Return the SHA-256 of a local file, and the name of a set of weights in it; return a URL as it is.

    Example:
        >>> len(digest_of_file('work_dirs/KD/seed_0/epoch_1.pth'))
        64
    """
    place, name = split_weights_name(path)
    if not Path(place).is_file():
        return path
    digest = hashlib.sha256()
    with open(place, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest() + ('' if name is None else f'#{name}')


def load_checkpoint_file(path: str | os.PathLike, map_location: Any = 'cpu') -> dict:
    """Load a checkpoint that holds only tensors, plain values and the message hub of MMEngine's Runner.

    torch.save stores a CRC-32 of each record, which torch.load ignores. This function verifies it before it unpickles
    anything. It detects accidental damage of a record with a probability of 1 - 2**-32, and always up to 32 bits in a
    row. Against intended damage only tensors and plain values are loaded. Files of the format before torch 1.6, and
    files written with ``torch.serialization.set_crc32_options(False)``, have no CRC-32.

    Args:
        path: File; ``~`` is expanded. A name after ``#`` selects one of several sets of weights in the file, as in
            ``'resnet18.pth#state_dict_ema'``.
        map_location: Device of the tensors, as in :func:`torch.load`.

    Returns:
        The dict in the file, a checkpoint of the Runner or a bare state dict. If a set of weights is selected, only
        this set, as ``'state_dict'``.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The path is a folder; or the file is empty, truncated, damaged, not a checkpoint, or wants other
            objects built.

    Example:
        >>> checkpoint = load_checkpoint_file('work_dirs/KD/seed_0/epoch_1.pth')
        >>> checkpoint['meta']['epoch']
        1
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
        checkpoint = load_restricted(path, map_location)
    except pickle.UnpicklingError as error:
        forbidden = forbidden_name(error)
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
    """Refuse a file of torch.save that lacks its end, or in which a record has changed."""
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
    """Call :func:`load_checkpoint_file` as a scheme of MMEngine's loader; its log shows the name from character 11.

    Example:
        >>> load_from_local('work_dirs/KD/seed_0/epoch_1.pth', map_location='cpu')['meta']['epoch']
        1
    """
    return load_checkpoint_file(filename, map_location)


def load_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True) -> dict:
    """Download a checkpoint once into the cache of torch.hub, then load it by :func:`load_checkpoint_file`.

    Args:
        url: Address of the file; its last part is the name in the cache.
        model_dir: Cache folder; ``None`` means ``checkpoints`` in :func:`torch.hub.get_dir`.
        map_location: Device of the tensors, as in :func:`torch.load`.
        progress: Show a progress bar on stderr.

    Example:
        >>> address = 'https://example.org/epoch_1.pth'  # it is in the cache already
        >>> load_url(address, model_dir='work_dirs/KD/seed_0')['meta']['epoch']
        1
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


def _no_checkpoint(path: Path, error: Exception) -> ValueError:
    reason = str(error).split('WeightsUnpickler error:')[-1].strip()  # torch puts advice to its own users in front
    reason = reason.splitlines()[0] if reason else type(error).__name__
    return ValueError(
        f'{str(path)!r} is no checkpoint, or a damaged one ({reason}); expected a file that torch.save '
        'wrote: check the path, or copy or download it again'
    )
