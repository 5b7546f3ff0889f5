"""Load CIFAR-100: photos of 100 classes at 32 x 32 pixels."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import mmpretrain.datasets
import numpy as np

from r2kd_mm.datasets.image_set import ImageSet
from r2kd_mm.published import CONTENTS_FILE
from r2kd_mm.registry import DATASETS

FOLDER = mmpretrain.datasets.CIFAR100.base_folder
MD5 = dict([*mmpretrain.datasets.CIFAR100.train_list, *mmpretrain.datasets.CIFAR100.test_list])


@DATASETS.register_module()
class CIFAR100(ImageSet):
    """CIFAR-100 (Krizhevsky, 2009), its Python version, with the 100 fine labels.

    An image is a ``uint8`` array of shape ``(32, 32, 3)``, RGB. Samples, labels and names are the same as in
    mmpretrain's ``CIFAR100``. This class replaces it, because mmpretrain's starts a download if files are missing,
    refuses a small subset for tests, and its pickles may run code. For the arguments and errors see
    :class:`~r2kd_mm.datasets.image_set.ImageSet`.

    Example:
        >>> dataset = CIFAR100('data/cifar100', split='test')  # a miniature of 4 classes
        >>> len(dataset), len(dataset.metainfo['classes'])
        (8, 4)
    """

    key = 'cifar100'
    required = tuple(f'{FOLDER}/{name}' for name in ('train', 'test', 'meta'))

    def read_split(self, root: Path) -> tuple[list[str], list[dict]]:
        """See the base class; the splits are ``'train'`` and ``'test'``."""
        path = root / FOLDER / self.split
        if not (root / CONTENTS_FILE).is_file():
            _check_md5(path, MD5[self.split])
        meta, batch = _load_pickle(root / FOLDER / 'meta'), _load_pickle(path)
        try:
            classes, labels = list(meta['fine_label_names']), batch['fine_labels']
            images = batch['data'].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{FOLDER}/{self.split} or {FOLDER}/meta is not a file of CIFAR-100 ({error!r})'
            ) from error
        if len(images) != len(labels):
            raise ValueError(f'{FOLDER}/{self.split} has {len(images)} images, but {len(labels)} labels')
        return classes, [dict(img=image, gt_label=int(label)) for image, label in zip(images, labels)]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of plain containers and arrays, which is all that the files hold; other pickles are refused."""

    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) == ('numpy', 'ndarray'):
            return np.ndarray
        if (module, name) == ('numpy', 'dtype'):
            # Python 2 wrote 0 and 1 for the flags, of which NumPy 2.4 and later complain
            return lambda dtype, align, copy: np.dtype(dtype, align=bool(align), copy=bool(copy))
        if module in ('numpy.core.multiarray', 'numpy._core.multiarray') and name == '_reconstruct':
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'it refers to {module}.{name}, which no file of CIFAR-100 does')


def _load_pickle(path: Path) -> dict:
    try:
        with path.open('rb') as file:
            return _ArrayUnpickler(file, encoding='latin1').load()  # written by Python 2
    except (pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(f'{FOLDER}/{path.name} cannot be read: {error}') from error


def _check_md5(path: Path, expected: str) -> None:
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if found != expected:
        raise ValueError(f'{FOLDER}/{path.name} is not the published file: its MD5 sum is {found}, expected {expected}')
