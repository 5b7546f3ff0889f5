"""Choose the colours of all figures, and render the figures for light and dark screens and for print."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): distinguishable with any kind of colour vision, on white and on black
COLORS = ('#0072B2', '#E69F00', '#009E73', '#D55E00', '#CC79A7', '#56B4E9')
LINES = ('-', '--', ':', '-.')
MARKERS = ('o', 's', '^', 'D')
TEACHER_LINES = ('-.', (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
TEACHER_MARKERS = ('x', '+', '1')
WIDTH = 9.0  # inches, of every figure
DPI = 150
PRINT_INK = '#222222'
# Stands for the colour of the text around a figure, which the page decides; no palette has it.
SCREEN_INK = '#0a0b0c'


class Style(NamedTuple):
    """Colour, line style and marker of a method in every figure; ``color=None`` uses the text colour."""

    color: str | None
    line: str | tuple
    marker: str

    @property
    def ink(self) -> str:
        """The color to draw with."""
        return self.color or current_ink()


def styles(methods: Sequence[str], teachers: Sequence[str] = ()) -> dict[str, Style]:
    """Choose a style for each method and each teacher, by their order."""
    count = len(COLORS)
    looks = {
        name: Style(COLORS[place % count], LINES[place // count % len(LINES)], MARKERS[place // count % len(MARKERS)])
        for place, name in enumerate(methods)
    }
    return looks | {
        name: Style(None, TEACHER_LINES[place % len(TEACHER_LINES)], TEACHER_MARKERS[place % len(TEACHER_MARKERS)])
        for place, name in enumerate(teachers)
    }


def to_svg(draw: Callable[[], Figure], name: str) -> str:
    """Render the figure as an SVG element of a page, in the text colour of that page; its ids begin with ``name``."""
    with ink(SCREEN_INK, hashsalt=name):
        figure, buffer = draw(), io.StringIO()
        figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None}, transparent=True, dpi=DPI)
    svg = buffer.getvalue()
    svg = svg[svg.index('<svg') :].replace(SCREEN_INK, 'currentColor')
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    svg = re.sub(r'(?<=<svg )(.*?)width="[^"]*"', r'\1', svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?)\sheight="[^"]*"', r'\1', svg, count=1)
    return re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{name}-', svg)


def to_png(draw: Callable[[], Figure]) -> bytes:
    """Render the figure as a PNG file, dark on white."""
    with ink(PRINT_INK):
        figure, buffer = draw(), io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format='png', dpi=DPI, facecolor='white', metadata={'Software': None})
    return buffer.getvalue()


def save_png(draw: Callable[[], Figure], path: Path) -> None:
    """Write the figure as a PNG file; make its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(draw))


@contextlib.contextmanager
def ink(color: str, hashsalt: str | None = None) -> Iterator[None]:
    """Draw with one color of text and lines, whatever the user's matplotlibrc says."""
    inked = ('text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color', 'grid.color')
    settings: Any = {
        **dict.fromkeys(inked, color),
        'axes.facecolor': 'none',
        'axes.grid': True,
        'axes.axisbelow': True,
        'axes.spines.right': False,
        'axes.spines.top': False,
        'axes.titlelocation': 'left',
        'axes.titlesize': 10,
        'font.size': 9,
        'grid.alpha': 0.2,
        'legend.frameon': False,
        'svg.hashsalt': hashsalt,  # else the ids in an SVG are random
        'figure.constrained_layout.use': True,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


def current_ink() -> str:
    """Return the color of the text of the figure that is being drawn."""
    return matplotlib.rcParams['text.color']
