"""Give images the same brightness and contrast: one mean and one standard deviation for each channel of every image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from r2kd_mm.arguments import is_number
from r2kd_mm.registry import TRANSFORMS

MIDDLE = 127.5  # of 0 to 255


@TRANSFORMS.register_module()
class NormalizeContrast(BaseTransform):
    """Transform that gives each channel of ``img`` the same mean and standard deviation.

    ``img`` is ``uint8`` of shape ``(H, W, C)``. The mean becomes 127.5 and the standard deviation ``spread``; values
    are clipped to 0 to 255. A constant channel becomes 128. Photographs of characters are often prepared in this way,
    because brightness and contrast do not depend on the character (Sermanet et al., *Convolutional neural networks
    applied to house numbers digit classification*, ICPR 2012, do this in each local region).

    Args:
        spread: Standard deviation of the result, above 0 and at most 127.5.

    Raises:
        ValueError: ``spread`` is out of range.
        TypeError: From the transform: the image is not ``uint8``.

    Example:
        >>> dark = dict(img=np.arange(16, dtype=np.uint8).reshape(4, 4, 1))
        >>> image = NormalizeContrast(spread=48.0).transform(dark)['img']
        >>> int(image.min()), int(image.max()), round(image.mean())
        (49, 206, 128)
    """

    def __init__(self, spread: float = 48.0) -> None:
        if not is_number(spread) or not 0 < spread <= MIDDLE:
            raise ValueError(f'spread must be above 0 and at most {MIDDLE}, got {spread!r}')
        self.spread = spread

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``img``."""
        image = results['img']
        if image.dtype != np.uint8:
            raise TypeError(f'NormalizeContrast takes images of type uint8, got {image.dtype}; put it further ahead')
        mean, std = cv2.meanStdDev(image)
        levels = np.arange(256)[:, None]
        table = MIDDLE + self.spread * (levels - mean.T) / np.maximum(std.T, 1)
        table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
        results['img'] = cv2.LUT(image, table[None]).reshape(image.shape)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(spread={self.spread})'
