"""Load the handwritten digits that come with scikit-learn: real images that need no download."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from mmpretrain.datasets import BaseDataset

from r2kd_mm.registry import DATASETS

SPLITS = ('train', 'test')
NUM_CLASSES = 10
SMALLEST_CLASS = 174  # images of the digit 8; the largest class has 183
SIDE, LARGEST_PIXEL = 8, 16


@DATASETS.register_module()
class Digits(BaseDataset):
    """1797 grey images of 8 x 8 pixels: the test part of Alpaydin and Kaynak's optical digits (UCI, 1998).

    A random class-balanced subset is the training set, and all other images are the test set. The draw depends only on
    ``split_seed``, not on the seed of the run, so that runs of several seeds train on the same images. A larger
    ``train_size`` keeps the images of a smaller one. An image is a ``uint8`` array of shape ``(8, 8, channels)`` with
    values from 0 to 255.

    Args:
        split: ``'train'`` or ``'test'``.
        train_size: Number of training images, a multiple of 10 from 10 to 1730.
        split_seed: Seed of the random split, >= 0.
        channels: 1, or 3 equal channels for networks and transforms that expect colour.
        pipeline: Transforms of a sample.
        test_mode: If true, a pipeline that returns ``None`` is an error; if false, another image is drawn at random.
        indices: Use the first ``indices`` samples, or the listed ones; ``None`` for all.
        lazy_init: If true, load the images at first use instead of in the constructor.

    Raises:
        ValueError: An argument is out of range.
        ImportError: scikit-learn is not installed.

    Example:
        >>> dataset = Digits('train', train_size=100)
        >>> len(dataset), dataset[0]['img'].shape
        (100, (8, 8, 1))
    """

    METAINFO = dict(classes=tuple(str(digit) for digit in range(NUM_CLASSES)))

    def __init__(
        self,
        split: str,
        train_size: int = 300,
        split_seed: int = 0,
        channels: int = 1,
        pipeline: Sequence = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
        lazy_init: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
        largest = NUM_CLASSES * (SMALLEST_CLASS - 1)  # leaves an image of every class to test on
        if train_size % NUM_CLASSES or not NUM_CLASSES <= train_size <= largest:
            raise ValueError(
                'train_size is shared equally by the 10 digits and leaves some of each to test on: it '
                f'must be a multiple of {NUM_CLASSES} from {NUM_CLASSES} to {largest}, got {train_size}'
            )
        if channels not in (1, 3):
            raise ValueError(f'channels must be 1 (grey) or 3 (grey, repeated), got {channels}')
        if split_seed < 0:
            raise ValueError(f'split_seed must be >= 0, got {split_seed}')
        self.split = split
        self.train_size = train_size
        self.split_seed = split_seed
        self.channels = channels
        super().__init__(ann_file='', pipeline=pipeline, test_mode=test_mode, indices=indices, lazy_init=lazy_init)

    def load_data_list(self) -> list[dict]:
        """Load the images and labels of the split, in the order of the bundled file."""
        # one line per image, its label last; read without scikit-learn, whose import is slow
        table = np.loadtxt(_bundled_file(), delimiter=',', dtype=np.int64)
        pixels, labels = table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1]
        images = np.rint(pixels * (255 / LARGEST_PIXEL)).astype(np.uint8)[..., None]
        images = images.repeat(self.channels, axis=-1)

        in_train = np.zeros(len(images), dtype=bool)
        in_train[_draw_balanced(labels, self.train_size // NUM_CLASSES, self.split_seed)] = True
        chosen = in_train if self.split == 'train' else ~in_train
        return [dict(img=image, gt_label=int(label)) for image, label in zip(images[chosen], labels[chosen])]


def _bundled_file() -> Path:
    package = find_spec('sklearn')
    if package is None or not package.submodule_search_locations:
        raise ImportError(
            'the digits come with scikit-learn, which is not installed; '
            "install the demo extra: pip install 'r2kd_mm[demo]'"
        )
    return Path(package.submodule_search_locations[0], 'datasets', 'data', 'digits.csv.gz')


def _draw_balanced(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draw the positions of ``per_class`` labels of each class; a larger number keeps those of a smaller one."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(NUM_CLASSES)]
    return np.concatenate(drawn)
