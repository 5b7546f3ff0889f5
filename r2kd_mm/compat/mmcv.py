"""Fix mmcv's hue shift, which fails with numpy 2, and silence mmcv-lite's warning about missing operators."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from r2kd_mm.import_hook import Load

if TYPE_CHECKING:
    import numpy as np


def ignore_missing_operators(load: Load) -> None:
    """Import mmcv's module ``transformer`` without the warning that mmcv-lite has no compiled operators.

    Upstream symptom: ``UserWarning: Fail to import MultiScaleDeformableAttention from mmcv.ops``; r2kd_mm uses none.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Fail to import ``?MultiScaleDeformableAttention')
        load()


def shift_hue_backwards() -> None:
    """Let mmpretrain's ``ColorJitter(hue=...)`` work with numpy 2.

    Upstream symptom: ``OverflowError: Python integer -25 out of bounds for uint8`` from ``mmcv.adjust_hue`` for every
    negative hue factor, half of all factors.
    """
    import mmcv
    import numpy as np

    try:
        mmcv.adjust_hue(np.zeros((1, 1, 3), np.uint8), -0.5, backend='cv2')
    except OverflowError:
        mmcv.adjust_hue = mmcv.image.adjust_hue = functools.wraps(mmcv.adjust_hue)(
            functools.partial(_adjust_hue, mmcv.adjust_hue)
        )


def _adjust_hue(upstream: Callable, img: np.ndarray, hue_factor: float, backend: str | None = None) -> np.ndarray:
    """Shift the hue by ``mmcv.adjust_hue``, or without it where numpy 2 refuses the negative factor."""
    try:
        return upstream(img, hue_factor, backend)
    except OverflowError:
        shift = int(hue_factor * 255)
    import cv2
    import mmcv
    import numpy as np
    from PIL import Image

    def shifted(channel: np.ndarray) -> np.ndarray:
        return ((channel.astype(np.int16) + shift) % 256).astype(np.uint8)

    if (backend or mmcv.image.io.imread_backend) == 'pillow':
        hue, saturation, value = Image.fromarray(np.ascontiguousarray(img[..., ::-1])).convert('HSV').split()
        rgb = Image.merge('HSV', (Image.fromarray(shifted(np.array(hue))), saturation, value)).convert('RGB')
        return np.array(rgb, dtype=img.dtype)[..., ::-1]
    hsv = cv2.cvtColor(img.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] = shifted(hsv[..., 0])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL).astype(img.dtype)
