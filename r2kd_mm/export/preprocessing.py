"""Turn an image file into the input of an exported network: decode, resize, crop and normalise."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import CenterCrop, Resize
from torch import Tensor

from r2kd_mm.datasets.loading import EXTENSIONS, LoadImageFromFile
from r2kd_mm.engine.cli import RunStopped
from r2kd_mm.registry import TRANSFORMS

CHANNELS = {'RGB': 3, 'BGR': 3, 'GRAY': 1}
DEFAULT_INTERPOLATION = 'bilinear'  # of the transforms of mmcv and mmpretrain
EDGES = ('short', 'long', 'width', 'height')


@dataclass(frozen=True)
class Preprocessing:
    """Steps from an image file to the input of a network.

    Args:
        shape: Shape ``(C, H, W)`` that the transforms must produce; another size is an error.
        channel_order: Channel order of the result, of ``mean`` and of ``std``: ``'RGB'``, ``'BGR'`` or ``'GRAY'``.
        mean: Value to subtract from each channel, for pixels from 0 to 255.
        std: Value to divide each channel by, for pixels from 0 to 255.
        transforms: Configs of the transforms of mmcv and mmpretrain that run before normalisation, in this order.

    Raises:
        ValueError: The channel order is unknown or does not fit the shape.

    Example:
        >>> Preprocessing((3, 32, 32), 'RGB', (0.0,) * 3, (255.0,) * 3, transforms=()).describe()
        {'channel_order': 'RGB', 'mean': (0.0, 0.0, 0.0), 'std': (255.0, 255.0, 255.0), 'transforms': ()}
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
        """Return all fields except the shape, as in ``export.json``."""
        return {name: value for name, value in asdict(self).items() if name != 'shape'}

    @classmethod
    def read(cls, shape: Sequence[int], described: Mapping[str, Any]) -> Preprocessing:
        """Read the fields of :meth:`describe` from JSON, and restore tuples, which some transforms need."""
        channels, height, width = shape
        return cls((channels, height, width), **_with_tuples(described))

    @property
    def interpolation(self) -> str | None:
        """Return the interpolation of the last step that resizes; ``None`` without one."""
        sizing = [step for step in self.transforms if 'scale' in step or 'scale_factor' in step]
        return sizing[-1].get('interpolation', DEFAULT_INTERPOLATION) if sizing else None

    def __call__(self, path: str | os.PathLike) -> Tensor:
        """Return the normalised image of a file, ``(C, H, W)``.

        Raises:
            RunStopped: The image is broken.
            ValueError: The image does not have the size that the network takes.
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
    """Return the image of a file after ``transforms``, as in OpenMMLab: ``uint8``, ``(H, W, 3)``, BGR.

    Raises:
        RunStopped: The image is broken.
    """
    results: dict[str, Any] = dict(img_path=str(path))
    for step in [dict(type='LoadImageFromFile'), *transforms]:
        try:
            results = _build(step)(results)
        except RunStopped as error:  # its advice is for training data; the cause says what is wrong with the file
            raise RunStopped(f'image {str(path)!r} {error.__cause__}; get the file again') from error.__cause__
    return results['img']


def _build(step: dict[str, Any]) -> Callable[[dict], dict]:
    """Build a transform; the usual ones without mmpretrain, which a prediction does not need."""
    options = {name: value for name, value in step.items() if name != 'type'}
    usual = USUAL.get(step['type'])
    return TRANSFORMS.build(dict(step)) if usual is None else usual(**options)


class ResizeEdge:
    """Transform that resizes one edge to a given length, as mmpretrain's transform of this name.

    Args:
        scale: Length of the edge, in pixels.
        edge: ``'short'``, ``'long'``, ``'width'`` or ``'height'``.
        backend: Backend of :func:`mmcv.imresize`, ``'cv2'`` or ``'pillow'``.
        interpolation: Interpolation of :func:`mmcv.imresize`.

    Example:
        >>> ResizeEdge(scale=8)(dict(img=np.zeros((10, 20, 3), np.uint8)))['img'].shape
        (8, 16, 3)
    """

    def __init__(self, scale: int, edge: str = 'short', backend: str = 'cv2', interpolation: str = 'bilinear') -> None:
        if edge not in EDGES:
            raise ValueError(f'edge must be one of {", ".join(EDGES)}, got {edge!r}')
        self.scale = scale
        self.edge = edge
        self.options = dict(backend=backend, interpolation=interpolation)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``img``."""
        height, width = results['img'].shape[:2]
        if (
            self.edge == 'width'
            or (self.edge == 'short' and width < height)
            or (self.edge == 'long' and width > height)
        ):
            size = (self.scale, int(self.scale * height / width))
        else:
            size = (int(self.scale * width / height), self.scale)
        return {**results, 'img': mmcv.imresize(results['img'], size, **self.options)}


def list_images(path: str | os.PathLike) -> list[Path]:
    """List the image files in a folder and its subfolders, sorted; a file is returned as it is.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in it.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f'{str(path)!r} does not exist; give an image or a folder of images')
    found = sorted(file for file in path.rglob('*') if file.suffix.lower() in EXTENSIONS)
    if not found:
        raise FileNotFoundError(f'no image in {str(path)!r}; expected files that end in {", ".join(EXTENSIONS)}')
    return found


# By the names that they have in an export. mmpretrain takes the first three from mmcv, or we put our own before it.
USUAL: dict[str, Callable[..., Callable]] = dict(
    LoadImageFromFile=LoadImageFromFile, Resize=Resize, CenterCrop=CenterCrop, ResizeEdge=ResizeEdge
)
