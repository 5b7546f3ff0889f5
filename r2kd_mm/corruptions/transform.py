"""Define the pipeline transform ``Corrupt``, which corrupts the images that a data set loads."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from r2kd_mm.corruptions.filters import NAMES, check_corruption, corrupt
from r2kd_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Transform that corrupts ``img`` by :func:`~r2kd_mm.corruptions.corrupt`; put it right before ``PackInputs``.

    The draws depend on the seed, the corruption and the pixels of the image. So an image is corrupted in the same way
    in every epoch, order, subset and process.

    Args:
        name: One of :data:`~r2kd_mm.corruptions.NAMES`.
        severity: 1 (weak) to 5 (strong).
        seed: Seed of the draws, >= 0.

    Raises:
        ValueError: The corruption or severity is unknown, or the seed is negative.

    Example:
        >>> image = np.full((32, 32, 3), 128, np.uint8)
        >>> first, second = (Corrupt('gaussian_noise', severity=3).transform(dict(img=image))['img'] for _ in range(2))
        >>> bool((first != image).any()), bool((first == second).all())
        (True, True)
    """

    def __init__(self, name: str, severity: int, seed: int = 0) -> None:
        check_corruption(name, severity)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f'seed must be a whole number of 0 or more, got {seed!r}')
        self.name = name
        self.severity = severity
        self.seed = seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``img``, an array of type uint8."""
        image = results['img']
        entropy = [self.seed, NAMES.index(self.name), self.severity, zlib.crc32(image.tobytes())]
        results['img'] = corrupt(image, self.name, self.severity, np.random.default_rng(entropy))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name={self.name!r}, severity={self.severity}, seed={self.seed})'
