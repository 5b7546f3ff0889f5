"""Make the images of Glyph-100: list characters and fonts, make a mask of each character, and draw the images."""

from r2kd_mm.datasets.glyphs.alphabet import CHARACTERS, CLASSES, FONTS, SHIFTED_FONTS
from r2kd_mm.datasets.glyphs.drawing import IMAGE_SIZE, SPLITS, VERSION, Painter
from r2kd_mm.datasets.glyphs.masks import font_masks

__all__ = [
    'CHARACTERS',
    'CLASSES',
    'FONTS',
    'IMAGE_SIZE',
    'Painter',
    'SHIFTED_FONTS',
    'SPLITS',
    'VERSION',
    'font_masks',
]
