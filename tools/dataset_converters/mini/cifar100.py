"""Write a miniature of CIFAR-100, Python version: pickle files in the format of Python 2."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np

from mini.base import Format, Miniature, draw_image, write_archive

FOLDER = 'cifar-100-python'
SIZE = 32
CLASSES_PER_SUPERCLASS = 5


def write(folder: Path, mini: Miniature) -> None:
    """Write ``train``, ``test`` and ``meta`` with the keys of the real files; the classes are in random order."""
    root = folder / FOLDER
    root.mkdir()
    for split, count in (('train', mini.train), ('test', mini.val)):
        labels = mini.shuffled_labels(count)
        images = [np.asarray(draw_image(label, mini.classes, SIZE, mini.rng, longest_side=1)) for label in labels]
        batch = {
            'filenames': [f'object_{label}_s_{index:06d}.png' for index, label in enumerate(labels)],
            'batch_label': f'{split}ing batch 1 of 1',
            'fine_labels': labels,
            'coarse_labels': [label // CLASSES_PER_SUPERCLASS for label in labels],
            'data': np.stack(images).transpose(0, 3, 1, 2).reshape(len(images), -1),
        }
        (root / split).write_bytes(python2_pickle(batch))
    coarse = -(-mini.classes // CLASSES_PER_SUPERCLASS)
    meta = {
        'fine_label_names': [f'object_{label:03d}' for label in range(mini.classes)],
        'coarse_label_names': [f'objects_{label:02d}' for label in range(coarse)],
    }
    (root / 'meta').write_bytes(python2_pickle(meta))


def pack(folder: Path, dst: Path) -> None:
    """One compressed tar file."""
    write_archive(dst / 'cifar-100-python.tar.gz', folder, FOLDER)


def python2_pickle(value: object) -> bytes:
    """Pickle containers, numbers, text and ``uint8`` arrays as Python 2 did, with text as byte strings.

    Python 3 has no such strings, so its own pickles read otherwise under ``encoding='bytes'``, a common way to load
    CIFAR. Opcodes are those of protocol 2, described in Python's ``pickletools``.
    """
    return pickle.PROTO + b'\x02' + _opcodes(value) + pickle.STOP


def _opcodes(value: object) -> bytes:
    if isinstance(value, dict):
        items = b''.join(_opcodes(item) for pair in value.items() for item in pair)
        return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
    if isinstance(value, list):
        return pickle.EMPTY_LIST + pickle.MARK + b''.join(map(_opcodes, value)) + pickle.APPENDS
    if isinstance(value, tuple):
        return pickle.MARK + b''.join(map(_opcodes, value)) + pickle.TUPLE
    if isinstance(value, bytes):
        return pickle.BINSTRING + struct.pack('<i', len(value)) + value
    if isinstance(value, str):
        return _opcodes(value.encode('latin1'))
    if value is None:
        return pickle.NONE
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    if isinstance(value, int):
        return pickle.BININT + struct.pack('<i', value)
    assert isinstance(value, np.ndarray), type(value)
    assert value.dtype == np.uint8, value.dtype
    dtype = _reduced('numpy', 'dtype', ('u1', 0, 1)) + _opcodes((3, '|', None, None, None, -1, -1, 0)) + pickle.BUILD
    array_class = pickle.GLOBAL + b'numpy\nndarray\n'
    empty = (
        pickle.GLOBAL
        + b'numpy.core.multiarray\n_reconstruct\n'
        + pickle.MARK
        + array_class
        + _opcodes((0,))
        + _opcodes('b')
        + pickle.TUPLE
        + pickle.REDUCE
    )
    state = pickle.MARK + _opcodes(1) + _opcodes(value.shape) + dtype + _opcodes(False) + _opcodes(value.tobytes())
    return empty + state + pickle.TUPLE + pickle.BUILD


def _reduced(module: str, name: str, arguments: tuple) -> bytes:
    """Opcodes that call ``module.name`` with ``arguments``."""
    return pickle.GLOBAL + f'{module}\n{name}\n'.encode() + _opcodes(arguments) + pickle.REDUCE


FORMAT = Format(write, pack, size=SIZE)
