"""Make a binary mask of each character from its outline in a font file.

The code reads the outlines as numbers, and fills them by basic IEEE 754 operations, which every machine rounds in the
same way. A font library would be shorter, but two versions of a library may draw different pixels.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from fontTools.pens.basePen import BasePen
from fontTools.ttLib import TTFont

from r2kd_mm.checkpoint import digest_of_file
from r2kd_mm.datasets.glyphs.alphabet import CHARACTERS, FONTS, SHIFTED_FONTS

# A mask has RESOLUTION cells to the em. Row 0 is ASCENT cells over the baseline, the middle column in the middle of the
# character; all characters of all fonts fit in, with an empty border.
RESOLUTION = 128
ASCENT = 120
ROWS, COLUMNS = 168, 192
CURVE_STEPS = 8  # straight pieces that stand for a quadratic curve

Point = tuple[float, float]


@cache
def font_masks(font: str) -> tuple[np.ndarray, tuple[float, ...]]:
    """Make the masks of all characters in one font.

    Args:
        font: File name, one of :data:`~r2kd_mm.datasets.glyphs.alphabet.FONTS` or ``SHIFTED_FONTS``.

    Returns:
        ``uint8`` array of shape ``(100, ROWS, COLUMNS)``, 1 inside a character and 0 outside; the width of each
        character, in em.

    Raises:
        RuntimeError: The file differs from the font that defines Glyph-100.

    Example:
        >>> masks, widths = font_masks('DejaVuSans.ttf')
        >>> masks.shape, len(widths)
        ((100, 168, 192), 100)
    """
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', font)
    expected = {**FONTS, **SHIFTED_FONTS}[font]
    found = digest_of_file(str(path)) if path.is_file() else 'no such file'
    if found != expected:
        raise RuntimeError(
            f'Glyph-100 is drawn with the {font} of SHA-256 {expected}, which comes with matplotlib; found at {path}: '
            f'{found}. Other outlines would be other images: install the matplotlib of requirements/tested.txt'
        )
    masks, widths = [], []
    with TTFont(path) as file:
        names, glyphs = file.getBestCmap(), file.getGlyphSet()
        for character in CHARACTERS:
            pen = _EdgePen(glyphs)
            glyphs[names[ord(character)]].draw(pen)
            edges = np.array(pen.edges) * RESOLUTION / file['head'].unitsPerEm
            left, right = edges[..., 0].min(), edges[..., 0].max()
            edges[..., 0] += COLUMNS / 2 - (left + right) / 2
            edges[..., 1] = ASCENT - edges[..., 1]
            masks.append(fill(edges))
            widths.append(float(right - left) / RESOLUTION)
    return np.stack(masks), tuple(widths)


def fill(edges: np.ndarray) -> np.ndarray:
    """Mark cells whose middle lies inside closed polygons, by the nonzero winding rule of TrueType.

    Args:
        edges: Directed edges, shape ``(E, 2, 2)``: start and end, x and y, in cells from the upper left.

    Returns:
        ``uint8`` array of shape ``(ROWS, COLUMNS)``.
    """
    (x0, y0), (x1, y1) = edges[:, 0].T, edges[:, 1].T
    middles = np.arange(ROWS)[:, None] + 0.5
    crossed = (np.minimum(y0, y1) <= middles) & (middles < np.maximum(y0, y1))
    rows, numbers = np.nonzero(crossed)
    slope = (x1[numbers] - x0[numbers]) / (y1[numbers] - y0[numbers])
    x = x0[numbers] + (rows + 0.5 - y0[numbers]) * slope
    turns = np.zeros((ROWS, COLUMNS + 1), dtype=np.int64)
    # a cell lies right of the crossing where its middle does
    np.add.at(turns, (rows, np.ceil(x - 0.5).astype(int)), np.where(y1[numbers] > y0[numbers], 1, -1))
    return (turns.cumsum(axis=1)[:, :COLUMNS] != 0).astype(np.uint8)


class _EdgePen(BasePen):
    """Pen that collects the outline of a character as directed straight edges, in font units."""

    def __init__(self, glyphs: Any) -> None:
        super().__init__(glyphs)
        self.edges: list[tuple[Point, Point]] = []
        self._start: Point = (0, 0)

    def _moveTo(self, point: Point) -> None:
        self._start = point

    def _lineTo(self, point: Point) -> None:
        self.edges.append((self._getCurrentPoint(), point))

    def _qCurveToOne(self, control: Point, end: Point) -> None:
        start = previous = self._getCurrentPoint()
        for step in range(1, CURVE_STEPS + 1):
            t = step / CURVE_STEPS
            a, b, c = (1 - t) * (1 - t), 2 * t * (1 - t), t * t
            point = tuple(a * s + b * p + c * e for s, p, e in zip(start, control, end))
            self.edges.append((previous, point))
            previous = point

    def _closePath(self) -> None:
        self.edges.append((self._getCurrentPoint(), self._start))
