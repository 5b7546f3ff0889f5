"""Draw the figures of the results page and of a comparison of methods, with Matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from r2kd_mm.moved import old_names
from r2kd_mm.report.style import COLORS, LINES, WIDTH, Style, current_ink, styles
from r2kd_mm.report.views import Picture

__getattr__ = old_names(__name__)

COLUMNS = 3  # of small figures next to each other
PERCENT = (0.0, 100.0)
MOST_MAPS = 5  # side by side
MOST_TICKS = 30  # names on an axis that can still be read
FEW_TICKS = 12  # that leave room for numbers
LIGHT = 0.55  # of the range of a map: from here on, or up to here, black can be read on its colours


class Line(NamedTuple):
    """Curve of one method: ``steps`` on the x axis, and ``values`` of shape ``(seeds, steps)``."""

    steps: NDArray
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """Curves in one coordinate system.

    Args:
        title: Text above the panel.
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        lines: Method to curve.
        levels: Names and values of horizontal lines to compare with.
        bounds: Least and largest possible value; a band ends there.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Line]
    levels: Mapping[str, float] = field(default_factory=dict)
    bounds: tuple[float, float] = (-math.inf, math.inf)


class Points(NamedTuple):
    """Percentages of one method, each with the ends of its bar (NaN without one)."""

    means: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def draw_curves(panels: Sequence[Panel], style: Mapping[str, Style]) -> Figure:
    """Draw a panel for each scalar: the mean over seeds, and with several seeds a band of one standard deviation."""
    figure, grid = grid_of_panels(len(panels), min(COLUMNS, len(panels)), height=2.4 if len(panels) > 1 else 4)
    for panel, axes in zip(panels, grid):
        for name, level in panel.levels.items():
            axes.axhline(level, color=style[name].ink, linewidth=1.2, linestyle=style[name].line, label=name)
        for name, (steps, values) in panel.lines.items():
            mean = values.mean(axis=0)
            look = style[name]
            marker = 'o' if len(steps) == 1 else None  # a line of one point is invisible
            axes.plot(steps, mean, marker=marker, linestyle=look.line, color=look.ink, linewidth=1.5, label=name)
            if len(values) > 1:
                std = values.std(axis=0, ddof=1)
                band = np.clip([mean - std, mean + std], *panel.bounds)
                axes.fill_between(steps, *band, color=look.ink, alpha=0.18, linewidth=0)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    legend_above(figure, grid)
    return figure


def draw_histograms(panels: Mapping[str, Mapping[str, NDArray[np.float64]]], x: str, largest: float) -> Figure:
    """Draw histograms by panel and name, as outlines in one range from 0 to ``largest``."""
    figure, grid = grid_of_panels(len(panels), min(2, len(panels)), height=2.6)
    names = list(dict.fromkeys(name for histograms in panels.values() for name in histograms))
    style = styles(names)
    bins = np.linspace(0, largest, 41).tolist()
    for axes, (title, histograms) in zip(grid, panels.items()):
        for name, values in histograms.items():
            share = np.full(len(values), 100 / len(values))
            axes.hist(
                values,
                bins,
                weights=share,
                histtype='step',
                color=style[name].color,
                linestyle=LINES[names.index(name) % len(LINES)],  # the outlines lie on each other
                linewidth=1.6,
                label=name,
            )
        axes.set(title=title, xlabel=x, ylabel='share of the images (%)')
    legend_above(figure, grid)
    return figure


def draw_maps(
    maps: Mapping[str, NDArray[np.float64]], references: Mapping[str, NDArray[np.float64]], classes: Sequence[str]
) -> Figure:
    """Draw class-by-class maps, and below each map with a reference the difference to it.

    Args:
        maps: Name to correlation matrix, shape ``(classes, classes)``.
        references: Name to the matrix that is subtracted.
        classes: Names for the axes.
    """
    differences = {name: maps[name] - reference for name, reference in references.items()}
    limit = max((np.nanmax(np.abs(values)) for values in differences.values()), default=1.0) or 1.0
    blocks = math.ceil(len(maps) / MOST_MAPS)
    columns = math.ceil(len(maps) / blocks)
    side = WIDTH / columns
    figure = Figure(figsize=(WIDTH, 2 * blocks * side * 0.95))
    grid = figure.subplots(2 * blocks, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis('off')
    below = None
    for place, (name, values) in enumerate(maps.items()):
        block, column = divmod(place, columns)
        above = _map(grid[2 * block, column], values, 'PuOr', (-1.0, 1.0), name, classes)
        if name in differences:
            title = f'mean |difference| {np.nanmean(np.abs(differences[name])):.3f}'
            below = _map(grid[2 * block + 1, column], differences[name], 'RdBu', (-limit, limit), title, classes)
    figure.colorbar(above, ax=grid[0], label='correlation', shrink=0.8)
    if below is not None:
        figure.colorbar(below, ax=grid[1], label='difference', shrink=0.8)
    return figure


def draw_dots(
    labels: Sequence[str], points: Mapping[str, Points], style: Mapping[str, Style], x: str, y: str = ''
) -> Figure:
    """Draw a row for each label, with a dot for each method: a percentage and its bar, which ends at 0 and 100 %."""
    row_height = 0.16 * max(2, len(points))
    figure = Figure(figsize=(WIDTH, 1.3 + row_height * len(labels)))
    axes = figure.subplots()
    offsets = np.linspace(-0.3, 0.3, len(points)) if len(points) > 1 else [0.0]
    for offset, (name, (means, low, high)) in zip(offsets, points.items()):
        ends = np.clip([np.where(np.isnan(end), means, end) for end in (low, high)], *PERCENT)
        axes.errorbar(
            means,
            np.arange(len(labels)) + offset,
            xerr=None if np.isnan(low).all() else np.abs(ends - means),
            fmt=style[name].marker,
            color=style[name].color,
            markersize=5,
            elinewidth=1.2,
            label=name,
        )
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)  # the first on top
    axes.set(xlabel=x, ylabel=y)
    legend_above(figure, [axes])
    return figure


def draw_confusions(maps: Mapping[str, NDArray[np.float64]], classes: Sequence[str]) -> Figure:
    """Draw confusion matrices: a row for each class, in percent of its images, a column for each prediction.

    Args:
        maps: Name to matrix, shape ``(classes, classes)``.
        classes: Names for the axes.
    """
    columns = min(2 if len(classes) > FEW_TICKS or _are_long(classes) else COLUMNS, len(maps))
    figure, grid = grid_of_panels(len(maps), columns, height=min(WIDTH / columns, 5.0))
    for axes, (name, shares) in zip(grid, maps.items()):
        image = _map(axes, shares, 'Blues', PERCENT, name, classes)
        axes.set(xlabel='predicted', ylabel='is')
        for row, column in np.argwhere(shares > 0) if len(classes) <= FEW_TICKS else ():
            color = 'black' if shares[row, column] < LIGHT * PERCENT[1] else 'white'
            axes.text(column, row, f'{shares[row, column]:.0f}', ha='center', va='center', fontsize=7, color=color)
    figure.colorbar(image, ax=grid, label='share of the images of the class (%)', shrink=0.6)
    return figure


def draw_reliability(panels: Mapping[str, tuple[NDArray, NDArray, NDArray]]) -> Figure:
    """Draw reliability diagrams: accuracy against confidence in bins, and the number of images of each bin.

    Args:
        panels: Title to counts, confidence and accuracy of the bins, the latter two in ``[0, 1]``.
    """
    figure, grid = grid_of_panels(len(panels), COLUMNS if len(panels) > 4 else len(panels), height=2.7)
    for axes, (title, (counts, confidence, accuracy)) in zip(grid, panels.items()):
        edges = np.linspace(0, 100, len(counts) + 1)
        axes.bar(
            edges[:-1], 100 * counts / counts.sum(), np.diff(edges), align='edge', color=current_ink(), alpha=0.18,
            label='share of the images',
        )  # fmt: skip
        axes.plot([0, 100], [0, 100], color=current_ink(), linewidth=1, linestyle='--', label='as sure as right')
        filled = counts > 0
        axes.plot(
            100 * confidence[filled],
            100 * accuracy[filled],
            '-o',
            color=COLORS[0],
            markersize=3.5,
            linewidth=1.5,
            label='accuracy',
        )
        axes.set(title=title, xlabel='confidence (%)', ylabel='accuracy, share (%)', xlim=(0, 100), ylim=(0, 100))
    legend_above(figure, grid)
    return figure


def draw_heat_table(values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], label: str) -> Figure:
    """Draw a table whose cells show their number; a higher number is brighter."""
    figure = Figure(figsize=(WIDTH, 1.6 + 0.34 * len(rows)))
    axes = figure.subplots()
    axes.grid(False)
    cells = axes.pcolormesh(values, cmap='cividis', edgecolors='none')
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    for row, column in np.ndindex(*values.shape):
        share = (values[row, column] - low) / ((high - low) or 1)
        axes.text(
            column + 0.5, row + 0.5, f'{values[row, column]:.0f}', ha='center', va='center', fontsize=8,
            color='white' if share < LIGHT else 'black',
        )  # fmt: skip
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=40, ha='right', rotation_mode='anchor')
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(cells, ax=axes, label=label, pad=0.01)
    return figure


def draw_pictures(rows: Mapping[str, Sequence[Picture]], columns: int = 0) -> Figure:
    """Draw pictures side by side, a row for each name, with their text below them.

    Args:
        rows: Name to pictures.
        columns: Least number of pictures that fit in a row; few pictures are then not larger.
    """
    columns = max([columns, *(len(pictures) for pictures in rows.values())])
    side = WIDTH / columns
    lines = max(picture.text.count('\n') + 1 for pictures in rows.values() for picture in pictures)
    figure = Figure(figsize=(WIDTH, len(rows) * (side + 0.3 + 0.13 * lines)))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis('off')
    for line, (name, pictures) in zip(grid, rows.items()):
        for axes, picture in zip(line, pictures):
            axes.imshow(picture.pixels, interpolation='nearest')
            axes.text(0.5, -0.04, picture.text, transform=axes.transAxes, ha='center', va='top', fontsize=7)
        line[0].set_title(name, fontsize=9)
    return figure


def draw_scatter(panels: Mapping[str, Mapping[str, tuple[float, float]]], style: Mapping[str, Style], y: str) -> Figure:
    """Draw points by name. The title of a panel is the label of its horizontal axis, which is logarithmic."""
    figure, grid = grid_of_panels(len(panels), len(panels), height=2.9)
    for axes, (x, points) in zip(grid, panels.items()):
        for name, place in points.items():
            axes.plot(*place, style[name].marker, linestyle='', color=style[name].ink, markersize=7, label=name)
        axes.set(xlabel=x, ylabel=y, xscale='log')
        axes.margins(x=0.15, y=0.1)
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(_short_number))
        axes.xaxis.set_minor_formatter(NullFormatter())
    legend_above(figure, grid)
    return figure


def grid_of_panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Make a figure with ``count`` panels of a height in inches, left to right and then down."""
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, rows * height + 0.4))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.axis('off')
    return figure, grid[:count]


def _map(
    axes: Axes,
    values: NDArray[np.float64],
    cmap: str,
    limits: tuple[float, float],
    title: str,
    classes: Sequence[str],
) -> matplotlib.image.AxesImage:
    axes.axis('on')
    axes.grid(False)
    image = axes.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation='nearest')
    axes.set_title(textwrap.fill(title, 26), fontsize=8)
    ticks = range(len(classes)) if len(classes) <= MOST_TICKS else []
    small = 7 if len(classes) <= FEW_TICKS else 4
    axes.set_xticks(ticks, [classes[tick] for tick in ticks], fontsize=small, rotation=90 if _are_long(classes) else 0)
    axes.set_yticks(ticks, [classes[tick] for tick in ticks], fontsize=small)
    return image


def _short_number(value: float, position: int) -> str:
    """Format ``20000`` as ``20k``."""
    for unit, name in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= unit:
            return f'{value / unit:g}{name}'
    return f'{value:g}'


def _are_long(names: Sequence[str]) -> bool:
    return max(map(len, names)) > 2


def legend_above(figure: Figure, grid: Sequence[Axes], title: str | None = None) -> None:
    """Draw one legend for all panels, and the title of the figure above it."""
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels())}
    if not handles:
        return
    entry = 0.7 + 0.08 * max(map(len, handles))  # inches, at the size of our text
    columns = min(4, len(handles), max(1, int(WIDTH / entry)))
    figure.set_figheight(figure.get_figheight() + 0.2 * (math.ceil(len(handles) / columns) - 1))
    figure.legend(
        handles.values(), handles.keys(), loc='outside upper left', ncols=columns, title=title, alignment='left'
    )
