"""Draw any image of Glyph-100, byte for byte the same on every machine.

Version, seed, split, index and difficulty determine every byte.

Random numbers are raw bits of PCG64, which NumPy promises to keep. The rest is integer arithmetic, and basic IEEE 754
operations such as + and * in a fixed order. The code avoids sines, matrix products and sums of float arrays: the last
bit of such a result differs between machines and could change a byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from r2kd_mm.datasets.glyphs.alphabet import CHARACTERS, FONTS, SHIFTED_FONTS
from r2kd_mm.datasets.glyphs.masks import ASCENT, COLUMNS, RESOLUTION, ROWS, font_masks

VERSION = 1  # of the images: whatever changes a byte of one raises it
SPLITS = ('train', 'val', 'test', 'shifted')  # the place decides the random numbers
IMAGE_SIZE = 32
SUPERSAMPLING = 3  # points to a pixel, along each side
FRACTION = 65536  # cells of a mask are counted in these, as integers
LUMA = (0.299, 0.587, 0.114)  # brightness of RGB, ITU-R BT.601
MIDDLE = 0.36  # em over the baseline that comes to the middle of the image: half the height of a capital
NOISE_DEVIATION = math.sqrt(4 * (256**2 - 1) / 12)  # of the sum of four random bytes


class Draws:
    """Random number generator of one image, seeded by the integers in ``key``."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform(self, low: float, high: float) -> float:
        """Draw a number from ``low`` up to ``high``."""
        return low + (high - low) * ((self._bits.random_raw() >> 11) / 2**53)

    def below(self, limit: int) -> int:
        """Draw an integer from 0 to ``limit - 1``."""
        return self._bits.random_raw() % limit

    def noise(self, count: int) -> np.ndarray:
        """Draw ``count`` nearly normal numbers of mean 0 and deviation 1, sums of four bytes; ``count`` is even."""
        raw = self._bits.random_raw(count // 2).astype('<u8').view(np.uint8)
        return (raw.reshape(4, count).sum(axis=0, dtype=np.int64) - 510) / NOISE_DEVIATION


@dataclass(frozen=True)
class Strengths:
    """Strengths of the distortions at one difficulty.

    Attributes:
        half_turn: Largest tangent of half the angle of rotation.
        shear: Largest horizontal shift per unit of height.
        stretch: Largest factor between width and height, and its inverse.
        smallest_em: Smallest size of the font, in pixels to the em; the largest is 28.
        shift: Largest displacement of the character, in pixels.
        neighbours: Probability of another character on the left, and of one on the right.
        overlap: Largest overlap with this character, in em.
        contrast: Least difference in brightness between character and background, 0 to 255.
        gradient: Largest change of the background's brightness from one border to the opposite one, 0 to 255.
        blur: Largest weight of the neighbouring pixels, in each of the two passes of the blur.
        noise: Largest standard deviation of the noise, 0 to 255.
    """

    half_turn: float
    shear: float
    stretch: float
    smallest_em: float
    shift: float
    neighbours: float
    overlap: float
    contrast: float
    gradient: float
    blur: float
    noise: float

    @classmethod
    def of(cls, difficulty: float, split: str) -> Strengths:
        """Return the strengths of a difficulty from 0 to 1; the split ``'shifted'`` has more blur and noise."""
        degraded = 1.5 * difficulty if split == 'shifted' else difficulty
        return cls(
            half_turn=0.27 * difficulty,  # 30 degrees
            shear=0.45 * difficulty,
            stretch=1 + 0.5 * difficulty,
            smallest_em=28 - 16 * difficulty,
            shift=1 + 5.5 * difficulty,
            neighbours=0.3 + 0.7 * difficulty,
            overlap=0.25 * difficulty,
            contrast=105 - 80 * difficulty,
            gradient=80 * difficulty,
            blur=0.28 * degraded,
            noise=45 * degraded,
        )


class Painter:
    """Painter of the images of one split.

    Args:
        split: One of :data:`SPLITS`.
        seed: Seed of the random numbers, from 0 to 2**32 - 1.
        difficulty: From 0 to 1, see :class:`Strengths`. Image ``i`` is the same scene at every difficulty.

    Example:
        >>> Painter('train', seed=0, difficulty=0.5).paint(0).shape
        (32, 32, 3)
    """

    def __init__(self, split: str, seed: int, difficulty: float) -> None:
        self.key = (VERSION, seed, SPLITS.index(split))
        self.strengths = Strengths.of(difficulty, split)
        self.fonts = [font_masks(font) for font in (SHIFTED_FONTS if split == 'shifted' else FONTS)]

    def paint(self, index: int) -> np.ndarray:
        """Draw image ``index`` of the split, of class ``index % 100``: ``uint8``, shape ``(32, 32, 3)``, RGB."""
        strengths, draws = self.strengths, Draws(*self.key, index)
        masks, widths = self.fonts[draws.below(len(self.fonts))]
        view = _View.draw(strengths, draws)
        label = index % len(CHARACTERS)
        character = view.coverage(masks[label], 0.0)
        neighbours = np.zeros_like(character)
        for side in (-1, 1):
            present = draws.uniform(0, 1) < strengths.neighbours
            other, gap = draws.below(len(CHARACTERS)), draws.uniform(-strengths.overlap, 0.12)
            if present:
                offset = side * ((widths[label] + widths[other]) / 2 + gap)
                neighbours = np.maximum(neighbours, view.coverage(masks[other], offset))

        background = [draws.uniform(0, 255) for _ in range(3)]
        ink, other_ink = (
            contrasting([draws.uniform(0, 255) for _ in range(3)], background, strengths.contrast) for _ in range(2)
        )
        slope_x, slope_y = (draws.uniform(-strengths.gradient, strengths.gradient) / 2 for _ in range(2))
        if draws.uniform(0, 1) < 0.6:  # most neighbours belong to the same sign
            other_ink = ink
        ramp = (np.arange(IMAGE_SIZE) - (IMAGE_SIZE - 1) / 2) / (IMAGE_SIZE / 2)
        image = (slope_x * ramp + (slope_y * ramp)[:, None])[..., None] + background
        for alpha, colour in ((neighbours, other_ink), (character, ink)):
            image += alpha[..., None] * (colour - image)

        weight = draws.uniform(0, strengths.blur)
        for _ in range(2):
            image = blur(blur(image, weight).swapaxes(0, 1), weight).swapaxes(0, 1)
        deviation = draws.uniform(0, strengths.noise)
        image = image + deviation * draws.noise(image.size).reshape(image.shape)
        return np.rint(image).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _View:
    """Positions of the image points on the line of text, in 1 / FRACTION cells from the upper left of a mask.

    Attributes:
        columns: Contributions of the points' rows and columns to the column of the mask.
        rows: Contributions of the points' rows and columns to the row of the mask.
    """

    columns: tuple[np.ndarray, np.ndarray]
    rows: tuple[np.ndarray, np.ndarray]

    @classmethod
    def draw(cls, strengths: Strengths, draws: Draws) -> _View:
        """Draw a random size, rotation, shear, stretch and position."""
        t = draws.uniform(-strengths.half_turn, strengths.half_turn)
        cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        shear = draws.uniform(-strengths.shear, strengths.shear)
        stretch = draws.uniform(1, strengths.stretch)
        width = stretch if draws.below(2) else 1 / stretch
        cells = RESOLUTION / draws.uniform(strengths.smallest_em, 28)  # to a pixel
        points = (np.arange(IMAGE_SIZE * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - IMAGE_SIZE / 2
        x, y = (points - draws.uniform(-strengths.shift, strengths.shift) for _ in range(2))

        def fixed(values: np.ndarray) -> np.ndarray:
            return np.floor(values * FRACTION).astype(np.int32)

        # the inverse of: stretch and shear, then rotate
        return cls(
            columns=(
                fixed(y * ((sin + shear * cos) / width * cells) + COLUMNS / 2),
                fixed(x * ((cos - shear * sin) / width * cells)),
            ),
            rows=(fixed(y * (cos * cells) + (ASCENT - MIDDLE * RESOLUTION)), fixed(x * (-sin * cells))),
        )

    def coverage(self, mask: np.ndarray, offset: float) -> np.ndarray:
        """Return the covered share of each pixel, ``(32, 32)``; the character is ``offset`` em right of the middle."""
        column = self.columns[0][:, None] + (self.columns[1] - math.floor(offset * RESOLUTION * FRACTION))
        row = self.rows[0][:, None] + self.rows[1]
        column, row = column // FRACTION, row // FRACTION
        np.clip(column, 0, COLUMNS - 1, out=column)  # the border of a mask is empty
        np.clip(row, 0, ROWS - 1, out=row)
        inside = mask.take(row * COLUMNS + column)
        inside = inside[0::3] + inside[1::3] + inside[2::3]
        return (inside[:, 0::3] + inside[:, 1::3] + inside[:, 2::3]) / SUPERSAMPLING**2


def contrasting(colour: list[float], background: list[float], least: float) -> list[float]:
    """Move ``colour`` towards black or white until its brightness differs from ``background`` by ``least``.

    Args:
        colour: Red, green and blue, 0 to 255.
        background: Red, green and blue, 0 to 255.
        least: Difference in luma, at most 127.
    """
    own, other = _luma(colour), _luma(background)
    if abs(own - other) >= least:
        return colour
    extreme, goal = (0.0, other - least) if other > 127.5 else (255.0, other + least)
    share = (goal - own) / (extreme - own)
    return [channel + share * (extreme - channel) for channel in colour]


def blur(image: np.ndarray, weight: float) -> np.ndarray:
    """Mix each pixel with the one above and the one below, each with ``weight``."""
    above, below = np.concatenate([image[:1], image[:-1]]), np.concatenate([image[1:], image[-1:]])
    return (1 - 2 * weight) * image + weight * (above + below)


def _luma(colour: list[float]) -> float:
    red, green, blue = colour
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
