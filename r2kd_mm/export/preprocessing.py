"""From an image file to the tensor that a network takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from torch import Tensor

from r2kd_mm.engine import RunStopped
from r2kd_mm.registry import TRANSFORMS

CHANNELS = {'RGB': 3, 'BGR': 3, 'GRAY': 1}


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image file before the network.

    Args:
        shape: Of the result, ``(C, H, W)``.
        channel_order: ``'RGB'``, ``'BGR'`` or ``'GRAY'``, of the result, ``mean`` and ``std``.
        mean: Is subtracted, for each channel, in units of 0 to 255.
        std: Then divides.
        transforms: What changes the size before that: configs of mmcv's and mmpretrain's transforms, in order.

    Raises:
        ValueError: The channel order is unknown or does not fit the shape.
    """

    shape: tuple[int, int, int]
    channel_order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transforms: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        if CHANNELS.get(self.channel_order) != self.shape[0]:
            raise ValueError(
                f'channel_order must be one of {", ".join(CHANNELS)}, that of {self.shape[0]} channels, '
                f'got {self.channel_order!r}'
            )

    def describe(self) -> dict[str, Any]:
        """All but the shape, as ``export.json`` holds it."""
        return {name: value for name, value in asdict(self).items() if name != 'shape'}

    @classmethod
    def read(cls, shape: Sequence[int], described: Mapping[str, Any]) -> Preprocessing:
        """What :meth:`describe` gave, through JSON, which makes lists of the tuples that some transforms insist on."""
        channels, height, width = shape
        return cls((channels, height, width), **_with_tuples(described))

    def __call__(self, path: str | os.PathLike) -> Tensor:
        """The image of a file, normalised, ``(C, H, W)``.

        Raises:
            RunStopped: The image is broken.
            ValueError: It does not come out in the size that the network takes.
        """
        image = apply_transforms(path, self.transforms)
        if self.channel_order == 'GRAY':
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
        elif self.channel_order == 'RGB':
            image = image[..., ::-1]
        if image.shape[:2] != self.shape[1:]:
            raise ValueError(
                f'{str(path)!r} has {image.shape[:2]} pixels (height, width) after its transforms; the network takes '
                f'{self.shape[1:]}'
            )
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
        return (pixels - torch.tensor(self.mean).view(-1, 1, 1)) / torch.tensor(self.std).view(-1, 1, 1)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, (list, tuple)) else value


def apply_transforms(path: str | os.PathLike, transforms: Sequence[dict[str, Any]]) -> np.ndarray:
    """The image of a file after ``transforms``, as OpenMMLab holds it: ``uint8``, ``(H, W, 3)``, BGR.

    Raises:
        RunStopped: The image is broken.
    """
    steps = [dict(type='LoadImageFromFile'), *transforms]
    try:
        return Compose([TRANSFORMS.build(dict(step)) for step in steps])(dict(img_path=str(path)))['img']
    except RunStopped as error:  # its advice is for training data; the cause says what is wrong with the file
        raise RunStopped(f'image {str(path)!r} {error.__cause__}; get the file anew') from error.__cause__
