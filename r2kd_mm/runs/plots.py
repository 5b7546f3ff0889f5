"""Pictures of a comparison."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from r2kd_mm.runs.pruned import COLUMNS, PrunedTeacher
from r2kd_mm.runs.report import Row

# Okabe and Ito, "Color Universal Design" (2008), without the yellow: told apart with any kind of colour vision
_COLORS = ('#0072B2', '#E69F00', '#009E73', '#D55E00', '#CC79A7', '#56B4E9', '#000000')
_LINES = ('-', '--', ':')
_MARKERS = ('o', 's', '^')
_TEACHER_COLOR = '0.35'
_DPI = 150

matplotlib.use('Agg')  # pictures go to files, on machines without a screen too


def plot_accuracy(path: Path, rows: Sequence[Row], title: str, teachers: Mapping[str, float] | None = None) -> None:
    """Accuracy against epoch: the mean over seeds, and a band of one standard deviation where there are several.

    Args:
        path: The PNG to write.
        rows: The methods.
        title: What was trained on what.
        teachers: Name to accuracy of the teachers in percent, for lines to aim at.
    """
    figure = Figure(figsize=(8.5, 5), layout='constrained')
    axes = figure.subplots()
    for name, accuracy in (teachers or {}).items():
        axes.axhline(accuracy, color=_TEACHER_COLOR, linewidth=1.2, linestyle='-.', label=f'{name} ({accuracy:.1f} %)')
    for row, (color, line, marker) in zip(sorted(rows, key=lambda row: -row.last.mean), _styles()):
        epochs, curves = row.curve
        mean = curves.mean(axis=0)
        axes.plot(
            epochs,
            mean,
            line,
            color=color,
            marker=marker,
            markersize=3.5,
            linewidth=1.6,
            label=f'{row.method.name} ({mean[-1]:.1f} %)',
        )
        if len(curves) > 1:
            std = curves.std(axis=0, ddof=1)
            axes.fill_between(epochs, *np.clip([mean - std, mean + std], 0, 100), color=color, alpha=0.13, linewidth=0)
    axes.set(xlabel='epoch', ylabel='top-1 accuracy on the validation images (%)')
    axes.set_title(title, loc='left')
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.legend(
        loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False, title='after the last epoch', alignment='left'
    )
    counts = [len(row.results) for row in rows]
    most = max(counts)
    count = f'{most}' if min(counts) == most else f'{min(counts)} to {most}'
    _note(
        figure,
        f'Line: mean of {count} seeds; band: ± 1 standard deviation, within 0 and 100 %.' if most > 1 else 'One seed.',
    )
    _save(figure, path)


def plot_differences(path: Path, rows: Sequence[Row], baseline: str, title: str) -> None:
    """Paired difference of every method to the baseline, with its 95 % interval."""
    compared = [row for row in rows if row.difference is not None]
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(compared)), layout='constrained')
    axes = figure.subplots()
    axes.axvline(0, color=_TEACHER_COLOR, linewidth=1.2)
    for place, row in enumerate(compared):
        difference = row.difference
        if difference.low is not None:
            axes.plot([difference.low, difference.high], [place, place], color=_COLORS[0], linewidth=2.2)
        axes.plot(difference.mean, place, 'o', color=_COLORS[0], markersize=6)
        axes.annotate(
            f'{difference.mean:+.1f}',
            (difference.mean, place),
            xytext=(0, 7),
            textcoords='offset points',
            ha='center',
            fontsize=8,
        )
    axes.set_yticks(range(len(compared)), [row.method.name for row in compared])
    axes.set_ylim(len(compared) - 0.4, -0.7)  # first row on top
    axes.set(xlabel=f'accuracy minus that of {baseline} (percentage points)')
    figure.suptitle(title)  # the axes are narrow where the names are long
    axes.grid(axis='x', alpha=0.25)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    _note(figure, "Point: mean over seeds of the difference at the last epoch; bar: its 95 % interval (Student's t).")
    _save(figure, path)


def plot_class_correlations(
    path: Path, maps: Mapping[str, np.ndarray], reference: str, classes: Sequence[str], title: str
) -> None:
    """Class-by-class correlation maps, and below each its difference to the reference.

    Args:
        path: The PNG to write.
        maps: Name to correlation matrix, shape ``(classes, classes)``; the reference among them.
        reference: Which of ``maps`` the others are compared with: the teacher.
        classes: Names for the axes.
        title: What was trained on what.
    """
    differences = {name: values - maps[reference] for name, values in maps.items()}
    limit = max(np.abs(values).max() for values in differences.values()) or 1.0
    figure = Figure(figsize=(2.7 * len(maps) + 1.2, 6.4), layout='constrained')
    grid = figure.subplots(2, len(maps), squeeze=False)
    for column, (name, values) in enumerate(maps.items()):
        above = grid[0, column].imshow(values, cmap='PuOr', vmin=-1, vmax=1)
        grid[0, column].set_title(name, fontweight='bold')
        _class_ticks(grid[0, column], classes)
        if name == reference:
            grid[1, column].axis('off')
            text = f'In this row:\neach network\nminus the {reference}\n\n(white: the same)'
            grid[1, column].text(0.5, 0.5, text, ha='center', va='center', transform=grid[1, column].transAxes)
            continue
        below = grid[1, column].imshow(differences[name], cmap='RdBu', vmin=-limit, vmax=limit)
        grid[1, column].set_title(f'mean |difference| {np.abs(differences[name]).mean():.3f}', fontsize=10)
        _class_ticks(grid[1, column], classes)
    grid[0, 0].set_ylabel('class')
    figure.colorbar(above, ax=grid[0, :], label='correlation of the logits', shrink=0.85)
    if len(maps) > 1:
        figure.colorbar(below, ax=grid[1, :], label=f'difference to the {reference}', shrink=0.85)
    figure.suptitle(title)
    _save(figure, path)


def plot_pruned_teachers(
    path: Path, full: PrunedTeacher, pruned: Sequence[PrunedTeacher], title: str, marked_amount: float
) -> None:
    """What is left of a teacher against the amount that was pruned, a panel for each measure.

    Args:
        path: The PNG to write.
        full: The teacher.
        pruned: Its pruned copies.
        title: Which teacher, on which images.
        marked_amount: Where to draw a line, with R2KD's name at it.
    """
    measures = [(name, label) for name, label in COLUMNS.items() if getattr(full, name) is not None]
    figure = Figure(figsize=(11, 3.2 * -(-(len(measures) + 1) // 3) + 0.5), layout='constrained')
    panels = figure.subplots(-(-(len(measures) + 1) // 3), 3).flatten()
    pruners = list(dict.fromkeys(copy.pruner for copy in pruned))
    for axes, (name, label) in zip(panels, measures):
        axes.axhline(getattr(full, name), color=_TEACHER_COLOR, linewidth=1.2, linestyle='-.', label='full teacher')
        axes.axvline(
            marked_amount, color=_TEACHER_COLOR, linewidth=1, linestyle=':', label=f'amount in R2KD ({marked_amount})'
        )
        for pruner, (color, line, marker) in zip(pruners, _styles()):
            points = [(copy.amount, getattr(copy, name)) for copy in pruned if copy.pruner == pruner]
            axes.plot(*zip(*points), line, color=color, marker=marker, markersize=4, linewidth=1.6, label=pruner)
        axes.set(xlabel='amount pruned', ylabel=label)
        axes.grid(alpha=0.25)
        for side in ('top', 'right'):
            axes.spines[side].set_visible(False)
    for axes in panels[len(measures) :]:
        axes.axis('off')
    panels[len(measures)].legend(*panels[0].get_legend_handles_labels(), loc='center left', frameon=False)
    figure.suptitle(title)
    _save(figure, path)


def _styles() -> itertools.product:
    return ((color, line, marker) for line, marker in zip(_LINES, _MARKERS) for color in _COLORS)


def _class_ticks(axes, classes: Sequence[str]) -> None:
    axes.set_xticks(range(len(classes)), classes, fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)


def _note(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=8, color='0.35')


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
