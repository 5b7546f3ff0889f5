"""Draw Glyph-100 instead of downloading it: a data set of 100 printed characters at 32 x 32 pixels."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.utils import ProgressBar
from mmpretrain.datasets import BaseDataset

from r2kd_mm.arguments import is_number
from r2kd_mm.datasets.glyphs import CLASSES, IMAGE_SIZE, SPLITS, VERSION, Painter
from r2kd_mm.datasets.glyphs.drawing import Draws
from r2kd_mm.engine import AtomicLocalBackend
from r2kd_mm.registry import DATASETS

NUM_CLASSES = len(CLASSES)
SIZES = dict(train=20_000, val=5_000, test=10_000, shifted=10_000)
DIFFICULTY = 0.5
SEED_LIMIT = 2**32
REFERENCE_IMAGES = 256
# SHA-256 of the first REFERENCE_IMAGES images of each split, seed 0, default difficulty
REFERENCE = dict(
    train='c5c746aa9ab46cac972aa9ad651329d224cf82484a4c0bc72e1f7bb06fc7b68b',
    val='1b77cfd9579b9eaae6a7cb92901f5ebbf99245f3c04ee0b4c9356770286a9cee',
    test='8ad41583b319201724dcac61476ea562c7e2cc5c8fc0f3941d4321a02069e9d1',
    shifted='f4a62639e2f70662d63068d9c0be2bfeb0347d7f27d7fe9ba9bc87d8861bbe2d',
)
NOISE_STREAM = len(SPLITS)  # stream of random numbers after those of the splits


@DATASETS.register_module()
class Glyph100(BaseDataset):
    """Data set of printed characters in colour, which resemble photographs of street signs; see ``docs/glyph100.md``.

    Image ``i`` of a split shows class ``i % 100`` and depends only on ``seed``, ``split``, ``i`` and ``difficulty``. So
    a smaller set is the first part of a larger one, and every class has the same number of images. The splits share no
    random numbers. ``'shifted'`` has fonts that no other split has, and more blur and noise. An image is a ``uint8``
    array of shape ``(32, 32, 3)``, RGB.

    The images are drawn at the first use, about 2,000 per second, and kept in ``cache_dir``.

    Args:
        split: ``'train'``, ``'val'``, ``'test'`` or ``'shifted'``.
        size: Number of images, a multiple of 100; ``None`` for 20,000, 5,000, 10,000 and 10,000.
        seed: Seed of the images, from 0 to 2**32 - 1. It is not the seed of the run: runs of several seeds are
            comparable only on the same images.
        difficulty: From 0, upright characters in clear colours, to 1, small and distorted characters with strong noise.
        label_noise: Share of wrong labels in ``'train'``, from 0 to 1; a wrong label is one of the 99 other classes.
            Every 100 images have this share of wrong labels, up to rounding. With whole percentages, a larger share
            keeps the wrong labels of a smaller one. The images stay the same; ``true_label`` in each sample is the
            class that is shown.
        cache_dir: Folder in which the drawn images are cached.
        pipeline: Transforms of a sample.
        test_mode: If true, a pipeline that returns ``None`` is an error; if false, another image is drawn at random.
        indices: Use the first ``indices`` samples, or the listed ones; ``None`` for all.
        lazy_init: If true, draw or load the images at first use instead of in the constructor.

    Raises:
        ValueError: An argument is out of range.
        RuntimeError: This machine draws images that differ from the reference.

    Example:
        >>> dataset = Glyph100('val', size=100)
        >>> len(dataset), dataset[0]['img'].shape
        (100, (32, 32, 3))
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        split: str,
        size: int | None = None,
        seed: int = 0,
        difficulty: float = DIFFICULTY,
        label_noise: float = 0.0,
        cache_dir: str = 'data/glyph100',
        pipeline: Sequence = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
        lazy_init: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
        size = SIZES[split] if size is None else size
        if not isinstance(size, int) or size < NUM_CLASSES or size % NUM_CLASSES:
            raise ValueError(
                f'size is shared equally by the {NUM_CLASSES} classes: it must be a positive multiple of '
                f'{NUM_CLASSES}, got {size!r}'
            )
        if not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
            raise ValueError(f'seed must be an integer from 0 to {SEED_LIMIT - 1}, got {seed!r}')
        for name, share in dict(difficulty=difficulty, label_noise=label_noise).items():
            if not is_number(share) or not 0 <= share <= 1:
                raise ValueError(f'{name} must be a number from 0 to 1, got {share!r}')
        if label_noise and split != 'train':
            raise ValueError(f"label_noise is for the split 'train': {split!r} must measure with true labels")
        self.split = split
        self.size = size
        self.seed = seed
        self.difficulty = float(difficulty)
        self.label_noise = label_noise
        self.cache_dir = os.path.expanduser(cache_dir)
        super().__init__(ann_file='', pipeline=pipeline, test_mode=test_mode, indices=indices, lazy_init=lazy_init)

    @property
    def cache_file(self) -> Path:
        """File of the images; its name states everything that the images depend on."""
        name = f'v{VERSION}_{self.split}_{self.size}_seed{self.seed}_difficulty{self.difficulty!r}.npz'
        return Path(self.cache_dir, name)

    def load_data_list(self) -> list[dict]:
        """Load the images from the cache, or draw them, and add the labels."""
        images = _read_cache(self.cache_file, self.size)
        if images is None:
            images = self._draw()
            _write_cache(self.cache_file, images)
        true_labels = np.arange(self.size) % NUM_CLASSES
        labels = noisy_labels(self.size, self.seed, self.label_noise)
        return [
            dict(img=image, gt_label=int(label), true_label=int(true_label))
            for image, label, true_label in zip(images, labels, true_labels)
        ]

    def _draw(self) -> np.ndarray:
        check_reference(self.split)
        painter = Painter(self.split, self.seed, self.difficulty)
        print_log(f'drawing {self.size} {self.split} images of Glyph-100 for {str(self.cache_file)!r}', 'current')
        progress = ProgressBar(self.size // NUM_CLASSES) if is_main_process() else None
        images = np.empty((self.size, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        for index in range(self.size):
            images[index] = painter.paint(index)
            if progress and index % NUM_CLASSES == NUM_CLASSES - 1:
                progress.update()
        return images


def noisy_labels(size: int, seed: int, share: float) -> np.ndarray:
    """Return the labels of the first ``size`` training images, a share of them replaced by another class.

    Args:
        size: Number of images, a multiple of 100.
        seed: Seed of the images; the labels have their own random numbers.
        share: Share of wrong labels, from 0 to 1.

    Returns:
        Integers of shape ``(size,)``.
    """
    labels = np.arange(size) % NUM_CLASSES
    for block in range(size // NUM_CLASSES):
        draws = Draws(VERSION, seed, NOISE_STREAM, block)
        order = np.argsort([draws.uniform(0, 1) for _ in range(NUM_CLASSES)], kind='stable')
        steps = np.array([1 + draws.below(NUM_CLASSES - 1) for _ in range(NUM_CLASSES)])
        wrong = order[: round((block + 1) * NUM_CLASSES * share) - round(block * NUM_CLASSES * share)]
        labels[block * NUM_CLASSES + wrong] = (wrong + steps[wrong]) % NUM_CLASSES
    return labels


@cache
def check_reference(split: str) -> None:
    """Draw the beginning of a split, and compare it with the reference that defines the data set.

    Raises:
        RuntimeError: The bytes differ.
    """
    painter = Painter(split, seed=0, difficulty=DIFFICULTY)
    found = _digest(np.stack([painter.paint(index) for index in range(REFERENCE_IMAGES)]))
    if found != REFERENCE[split]:
        raise RuntimeError(
            f'this machine draws another Glyph-100: the first {REFERENCE_IMAGES} {split} images of version {VERSION} '
            f'have the SHA-256 {found}, expected {REFERENCE[split]}. Results on them cannot be compared with those of '
            f'others. NumPy is {np.__version__}; requirements/tested.txt has the versions that drew the expected ones'
        )


def _read_cache(path: Path, size: int) -> np.ndarray | None:
    """Read the images in ``path``; ``None`` if the file is missing or damaged."""
    try:
        with path.open('rb') as stream, np.load(stream, allow_pickle=False) as file:
            images, digest = file['images'], str(file['sha256'])
    except FileNotFoundError:
        return None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = repr(error)
    else:
        if images.shape == (size, IMAGE_SIZE, IMAGE_SIZE, 3) and images.dtype == np.uint8 and _digest(images) == digest:
            return images
        reason = 'its images are not those that were written'
    print_log(f'{str(path)!r} is damaged ({reason}): its images are drawn again', 'current', level=logging.WARNING)
    return None


def _write_cache(path: Path, images: np.ndarray) -> None:
    """Write ``images`` to ``path`` completely or not at all; two processes at once write the same."""
    buffer = io.BytesIO()
    np.savez(buffer, images=images, sha256=np.array(_digest(images)))
    AtomicLocalBackend().put(buffer.getvalue(), path)


def _digest(images: np.ndarray) -> str:
    return hashlib.sha256(images.tobytes()).hexdigest()
