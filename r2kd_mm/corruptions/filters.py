"""Corrupt an image in fifteen ways at five severities, after Hendrycks and Dietterich, ICLR 2019 (arXiv 1903.12261).

Names, order, and the strengths of noise, brightness, contrast and compression are from the paper. The code is our
own, so the images differ: accuracies are not comparable with CIFAR-10-C, CIFAR-100-C or ImageNet-C. The differences:

- The paper gives lengths, such as a blur radius, in pixels for one image size. Ours are fractions of the shorter side,
  so that a severity looks the same at all sizes. Images below 32 pixels get the lengths of 32 pixels.
- Our frost is generated; the paper blends in photographs.
- All random numbers come from one generator, which the caller gives.

The ports on PyPI (imagecorruptions 1.1.2, imagecorruptions-imaug 1.1.5; November 2026) refuse images below 32 pixels,
use lengths in pixels, and draw from NumPy's global state. The newer one installs numba and scikit-image, 240 MB.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Image = NDArray[np.floating[Any]]  # (H, W, channels), values 0 to 1

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 32  # lengths of smaller images are those of this one
ZOOM_STEPS = 9
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # weights of the colours, ITU-R BT.601


def corrupt(image: NDArray[np.uint8], name: str, severity: int, rng: Generator) -> NDArray[np.uint8]:
    """Return a corrupted copy of an image.

    Args:
        image: Shape ``(H, W)`` or ``(H, W, C)`` with ``C`` 1 or 3, any channel order.
        name: One of :data:`NAMES`.
        severity: 1 (weak) to 5 (strong).
        rng: Generator of all random numbers.

    Returns:
        Image of the same shape and type.

    Raises:
        ValueError: The corruption or severity is unknown, or the array is not an image.

    Example:
        >>> image = np.full((4, 4), 102, np.uint8)
        >>> int(corrupt(image, 'brightness', 1, np.random.default_rng(0))[0, 0])  # 102 + 0.1 * 255
        128
    """
    check_corruption(name, severity)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(
            'a corruption needs an image of type uint8 and shape (H, W), (H, W, 1) or (H, W, 3), got '
            f'{image.dtype} of shape {image.shape}; put it before what normalises or packs the image'
        )
    pixels = image.reshape(*image.shape[:2], -1).astype(np.float32) / 255
    corrupted = _CORRUPTIONS[name](pixels, severity - 1, rng)
    return np.rint(255 * corrupted.clip(0, 1)).astype(np.uint8).reshape(image.shape)


def check_corruption(name: str, severity: int) -> None:
    """Raise a ``ValueError`` for an unknown corruption or severity."""
    if name not in _CORRUPTIONS:
        raise ValueError(f'unknown corruption {name!r}; known: {", ".join(NAMES)}')
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise ValueError(f'severity must be one of {SEVERITIES}, got {severity!r}')


# --------------------------------------------------------------------------------------------------------------- noise
def _gaussian_noise(image: Image, level: int, rng: Generator) -> Image:
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[level]
    return image + deviation * rng.standard_normal(image.shape, np.float32)


def _shot_noise(image: Image, level: int, rng: Generator) -> Image:
    photons = (60, 25, 12, 5, 3)[level]  # of a white pixel
    return (rng.poisson(photons * image) / photons).astype(np.float32)


def _impulse_noise(image: Image, level: int, rng: Generator) -> Image:
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[level]
    draws = rng.random(image.shape, np.float32)
    return np.where(draws < share, np.where(draws < share / 2, np.float32(0), np.float32(1)), image)


# ---------------------------------------------------------------------------------------------------------------- blur
def _defocus_blur(image: Image, level: int, rng: Generator) -> Image:
    radius = (0.022, 0.027, 0.033, 0.042, 0.055)[level] * _side(image)
    reach = math.ceil(radius)
    steps = np.arange(-reach, reach + 1)
    disc = (radius + 0.5 - np.hypot(steps[:, None], steps[None])).clip(0, 1)  # a pixel at the edge counts in part
    return _filter(image, disc)


def _glass_blur(image: Image, level: int, rng: Generator) -> Image:
    """Move every pixel by some random steps, between two slight blurs."""
    smoothing, step = 0.006 * _side(image), max(1, round(0.01 * _side(image)))
    height, width = image.shape[:2]
    image = _smooth(image, smoothing)
    for _ in SEVERITIES[: level + 1]:
        rows, columns = rng.integers(-step, step, (2, height, width), endpoint=True)
        rows = (np.arange(height)[:, None] + rows).clip(0, height - 1)
        columns = (np.arange(width)[None] + columns).clip(0, width - 1)
        image = image[rows, columns]
    return _smooth(image, smoothing)


def _motion_blur(image: Image, level: int, rng: Generator) -> Image:
    length = (0.06, 0.09, 0.12, 0.16, 0.21)[level] * _side(image)
    return _filter(image, _line(length, angle=rng.uniform(0, math.pi)))


def _zoom_blur(image: Image, level: int, rng: Generator) -> Image:
    largest = (1.11, 1.16, 1.21, 1.26, 1.31)[level]
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    zoomed = []
    for zoom in np.linspace(1, largest, ZOOM_STEPS):
        matrix = cv2.getRotationMatrix2D(centre, 0, zoom)
        zoomed.append(_shaped(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), image))
    return np.mean(zoomed, axis=0, dtype=np.float32)


# ------------------------------------------------------------------------------------------------------------- weather
def _snow(image: Image, level: int, rng: Generator) -> Image:
    """Draw flakes that fall in one direction, over a paler image."""
    density = (0.01, 0.02, 0.03, 0.045, 0.06)[level]
    paleness = (0.2, 0.3, 0.3, 0.35, 0.45)[level]
    side = _side(image)
    size = max(0.3, 0.006 * side)
    flakes = (rng.random(image.shape[:2]) < density / max(1, size) ** 2).astype(np.float32)[..., None]
    falling = _filter(_smooth(flakes, size), _line(0.05 * side, angle=math.pi / 2 + rng.uniform(-0.5, 0.5)))
    peak = falling.max()
    pale = np.maximum(image, 0.5 + _grey(image) / 2)
    return (1 - paleness) * image + paleness * pale + (falling / peak if peak > 0 else falling)


def _frost(image: Image, level: int, rng: Generator) -> Image:
    """Draw veins of ice: the ridges of a fractal, with fine grain."""
    kept = (1.0, 0.8, 0.7, 0.65, 0.6)[level]
    strength = (0.4, 0.6, 0.7, 0.7, 0.75)[level]
    veins = 1 - np.abs(2 * _fractal(image.shape[:2], rng, decay=1.6) - 1)
    return kept * image + strength * veins[..., None] ** 2


def _fog(image: Image, level: int, rng: Generator) -> Image:
    density, decay = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[level]
    brightest = float(image.max()) or 1.0
    fog = _fractal(image.shape[:2], rng, decay)[..., None]
    return (image + density * fog) * (brightest / (brightest + density))


def _brightness(image: Image, level: int, rng: Generator) -> Image:
    """Raise the value, at the same hue and saturation."""
    value = image.max(axis=2, keepdims=True)
    brighter = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[level], 1)
    return np.where(value > 0, image * (brighter / np.maximum(value, 1e-6)), brighter)


# ------------------------------------------------------------------------------------------------------------- digital
def _contrast(image: Image, level: int, rng: Generator) -> Image:
    mean = image.mean(axis=(0, 1), keepdims=True)
    return mean + (0.4, 0.3, 0.2, 0.1, 0.05)[level] * (image - mean)


def _elastic_transform(image: Image, level: int, rng: Generator) -> Image:
    """Distort the image by a smooth random field."""
    furthest = (0.03, 0.045, 0.06, 0.08, 0.1)[level] * _side(image)
    height, width = image.shape[:2]
    field = _smooth(rng.uniform(-1, 1, (height, width, 2)).astype(np.float32), 0.06 * _side(image))
    field *= furthest / np.hypot(*np.moveaxis(field, 2, 0)).max()
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(
        image, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return _shaped(moved, image)


def _pixelate(image: Image, level: int, rng: Generator) -> Image:
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    height, width = image.shape[:2]
    coarse = cv2.resize(image, (max(1, int(share * width)), max(1, int(share * height))), interpolation=cv2.INTER_AREA)
    return _shaped(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST), image)


def _jpeg_compression(image: Image, level: int, rng: Generator) -> Image:
    quality = (25, 18, 15, 10, 7)[level]
    pixels = np.rint(255 * image).astype(np.uint8)
    _, file = cv2.imencode('.jpg', pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return _shaped(cv2.imdecode(file, cv2.IMREAD_UNCHANGED), image).astype(np.float32) / 255


_CORRUPTIONS: dict[str, Callable[[Image, int, Generator], Image]] = dict(
    gaussian_noise=_gaussian_noise,
    shot_noise=_shot_noise,
    impulse_noise=_impulse_noise,
    defocus_blur=_defocus_blur,
    glass_blur=_glass_blur,
    motion_blur=_motion_blur,
    zoom_blur=_zoom_blur,
    snow=_snow,
    frost=_frost,
    fog=_fog,
    brightness=_brightness,
    contrast=_contrast,
    elastic_transform=_elastic_transform,
    pixelate=_pixelate,
    jpeg_compression=_jpeg_compression,
)
NAMES = tuple(_CORRUPTIONS)
FAMILIES = dict(noise=NAMES[:3], blur=NAMES[3:7], weather=NAMES[7:11], digital=NAMES[11:])


# ------------------------------------------------------------------------------------------------------------- helpers
def _side(image: Image) -> int:
    return max(SMALLEST_SIDE, min(image.shape[:2]))


def _shaped(result: Any, image: Image) -> Any:
    """Restore the axis of a single channel, which OpenCV drops."""
    return result.reshape(image.shape)


def _grey(image: Image) -> Image:
    return image if image.shape[2] == 1 else (image @ GREY)[..., None]


def _smooth(image: Image, deviation: float) -> Image:
    return _shaped(cv2.GaussianBlur(image, (0, 0), deviation, borderType=cv2.BORDER_REFLECT_101), image)


def _filter(image: Image, kernel: NDArray[np.float64]) -> Image:
    return _shaped(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101), image)


def _line(length: float, angle: float) -> NDArray[np.float64]:
    """Make the kernel of a straight line about its centre, with each point shared between four pixels."""
    reach = math.ceil(length / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    along = np.linspace(-length / 2, length / 2, 8 * reach)
    rows, columns = reach + along * math.sin(angle), reach + along * math.cos(angle)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for row, row_share in ((top, top + 1 - rows), (top + 1, rows - top)):
        for column, column_share in ((left, left + 1 - columns), (left + 1, columns - left)):
            np.add.at(kernel, (row, column), row_share * column_share)
    return kernel


def _fractal(shape: tuple[int, ...], rng: Generator, decay: float) -> Image:
    """Draw clouds of shape ``(H, W)``, from 0 to 1: ever finer noise, each ``1 / decay`` of the coarser one."""
    height, width = shape
    clouds = np.zeros((height, width), np.float32)
    for octave in range(1, max(2, math.ceil(math.log2(max(shape)))) + 1):
        grain = rng.random((2**octave + 1, 2**octave + 1), np.float32)
        clouds += decay**-octave * cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
    clouds -= clouds.min()
    return clouds / (clouds.max() or 1)
