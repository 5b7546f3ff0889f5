"""Load images from disk; if a file is broken, raise an error that names the file, or skip the file and log its name."""

from __future__ import annotations

import copy
import re
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmengine.logging import MMLogger
from torch.utils.data import get_worker_info

from r2kd_mm.engine.cli import RunStopped
from r2kd_mm.registry import TRANSFORMS

EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')  # all are read by OpenCV
BROKEN = ('error', 'skip')
MAX_WORKERS = 1023
# one that a segment follows, or the end of the image; within a scan, 0 or a restart comes after 0xff
_JPEG_MARKER = re.compile(rb'\xff[^\x00\x01\xd0-\xd8\xff]')


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Transform that reads ``img_path`` into ``img`` (``uint8``, ``(H, W, 3)``, BGR) and names a broken file.

    The pixels are the same as in mmcv's transform of this name. This class replaces it, because mmcv's does not name
    the file and accepts a truncated image, whose rest OpenCV may fill with grey. Greyscale, palette, CMYK, 16-bit and
    transparent files are converted to three 8-bit channels. Flipped bits within a file are not detected.

    Args:
        broken: ``'error'``, or ``'skip'``, which draws another image at random if a file is missing, empty, truncated
            or not an image. Each skipped file is named in the log and counted. A data set in ``test_mode`` draws no
            replacements, so a broken image is an error there.
        backend_args: Options of MMEngine's file backends; ``None`` chooses by the path.

    Raises:
        ValueError: ``broken`` is neither ``'error'`` nor ``'skip'``.
        RunStopped: In the transform: the image is broken.

    Example:
        >>> path = 'data/cub200/images/001.Bird_1/Bird_1_0001_7.jpg'
        >>> LoadImageFromFile().transform(dict(img_path=path))['img'].shape
        (64, 64, 3)
        >>> LoadImageFromFile().transform(dict(img_path='data/cub200/images.txt'))
        Traceback (most recent call last):
        ...
        r2kd_mm.engine.cli.RunStopped: image 'data/cub200/images.txt' is broken, or no image: ...
    """

    def __init__(self, broken: str = 'error', *, backend_args: dict | None = None) -> None:
        if broken not in BROKEN:
            raise ValueError(f'broken must be one of {BROKEN}, got {broken!r}')
        self.broken = broken
        self.backend_args = copy.copy(backend_args)
        self._count = _WorkerCount() if broken == 'skip' else None

    @property
    def num_skipped(self) -> int | None:
        """Number of broken images in this process and its data workers; ``None`` if a broken image is an error."""
        return None if self._count is None else self._count.total()

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add ``img``, ``img_shape`` and ``ori_shape``; ``None`` asks the data set for another image."""
        path = results['img_path']
        try:
            image = self._read(path)
        except ValueError as error:
            if self._count is None:
                raise RunStopped(
                    f'image {path!r} {error}; get the file again, or let the training data leave out broken images '
                    f"by broken='skip' in {type(self).__name__} of its pipeline"
                ) from error
            self._count.add_one()
            # as an error: processes other than that of rank 0 show nothing less
            MMLogger.get_current_instance().error(f'Image {path!r} {error}: it is left out.')
            return None
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(broken={self.broken!r}, backend_args={self.backend_args})'

    def _read(self, path: str) -> np.ndarray:
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise ValueError(f'cannot be read ({error.strerror or error})') from error
        if not content:
            raise ValueError('is empty, a file of 0 bytes')
        if is_truncated(content):
            raise ValueError(f'is truncated: the end is missing after {len(content)} bytes')
        try:
            image = mmcv.imfrombytes(content, flag='color', backend='cv2')
        except cv2.error as error:
            raise ValueError(f'cannot be decoded ({error.err or error})') from error
        if image is None:
            raise ValueError(f'is broken, or no image: OpenCV makes nothing of its {len(content)} bytes')
        return image


def is_truncated(content: bytes) -> bool:
    """Tell whether a JPEG or PNG file lacks its end; OpenCV decodes no part of other truncated formats.

    Args:
        content: Bytes of the file; bytes after the end are allowed, as in some photographs.

    Example:
        >>> is_truncated(b'\\xff\\xd8\\xff\\xd9')  # the shortest JPEG: start and end
        False
        >>> is_truncated(b'\\x89PNG')
        True
    """
    if content.startswith(b'\xff\xd8'):
        return not _has_jpeg_end(content)
    if content.startswith(b'\x89PNG'):
        return content.rfind(b'IEND') < 0
    return False


def _has_jpeg_end(content: bytes) -> bool:
    """Walk from segment to segment by their lengths, so that a thumbnail in the header is skipped."""
    marker = _JPEG_MARKER.search(content, 2)
    while marker is not None and marker[0] != b'\xff\xd9':
        length = int.from_bytes(content[marker.end() : marker.end() + 2], 'big')
        marker = _JPEG_MARKER.search(content, marker.end() + length)
    return marker is not None


class _WorkerCount:
    """Count that a process shares with its data workers; each has its own place, so that none waits."""

    def __init__(self) -> None:
        self._counts = torch.zeros(1 + MAX_WORKERS, dtype=torch.int64).share_memory_()

    def add_one(self) -> None:
        worker = get_worker_info()
        self._counts[0 if worker is None else 1 + worker.id] += 1

    def total(self) -> int:
        return int(self._counts.sum())

    def __deepcopy__(self, memo: dict) -> _WorkerCount:
        return _WorkerCount()  # a plain copy would be shared with nobody
