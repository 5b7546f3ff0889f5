"""Write a comparison of methods: a table, a JSON file, and plots of accuracies and of differences to a baseline.

Also plot the correlations between classes for several networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from r2kd_mm.moved import old_names
from r2kd_mm.report.figures import PERCENT, Line, Panel, draw_curves, draw_maps
from r2kd_mm.report.style import COLORS, WIDTH, current_ink, save_png, styles
from r2kd_mm.report.table import Row, to_markdown, write_results

__getattr__ = old_names(__name__)


def write_comparison(
    folder: Path,
    rows: Sequence[Row],
    baseline: str | None = None,
    teachers: Mapping[str, float] | None = None,
    subject: str = '',
) -> str:
    """Write ``table.md``, ``results.json``, ``accuracy.png`` and, if there is a baseline, ``differences.png``.

    Args:
        folder: Output folder; created if it does not exist.
        rows: One row per method; at least one.
        baseline: Name of the method that the others are compared with.
        teachers: Accuracy of each teacher in percent, by name, on the same images as the table.
        subject: Networks and data set, for the titles of the plots.

    Returns:
        The table in Markdown.

    Example:
        >>> from r2kd_mm.report import make_rows
        >>> from r2kd_mm.runs import Method, Result
        >>> kd, r2kd = Method('KD', 'kd.py'), Method('R2KD', 'r2kd.py')
        >>> results = {kd: {0: Result([1], [70.0], {}, 60.0)}, r2kd: {0: Result([1], [72.0], {}, 90.0)}}
        >>> rows = make_rows(results, baseline='KD')
        >>> table = write_comparison(Path('comparison'), rows, baseline='KD', subject='the digits')
        >>> sorted(path.name for path in Path('comparison').iterdir())
        ['accuracy.png', 'differences.png', 'results.json', 'table.md']
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = to_markdown(rows, baseline, teachers)
    (folder / 'table.md').write_text(table)
    write_results(folder / 'results.json', rows, baseline)
    prefix = f'{subject}: ' if subject else ''
    validation_is_test = not any(result.test for row in rows for result in row.results.values())
    plot_accuracy(
        folder / 'accuracy.png', rows, f'{prefix}accuracy while training', teachers if validation_is_test else None
    )
    if baseline is not None and any(row.difference for row in rows):
        plot_differences(folder / 'differences.png', rows, baseline, f'{prefix}difference to {baseline}')
    return table


def plot_accuracy(path: Path, rows: Sequence[Row], title: str, teachers: Mapping[str, float] | None = None) -> None:
    """Plot accuracy against epoch: the mean over seeds, and a band of one standard deviation where there are several.

    Args:
        path: The PNG to write.
        rows: The methods; the best one is first in the legend.
        title: Networks and data set.
        teachers: Name to accuracy of the teachers in percent, for lines to aim at.

    Example:
        >>> from r2kd_mm.report import make_rows
        >>> from r2kd_mm.runs import Method, Result
        >>> kd, r2kd = Method('KD', 'kd.py'), Method('R2KD', 'r2kd.py')
        >>> results = {kd: {0: Result([1], [70.0], {}, 60.0)}, r2kd: {0: Result([1], [72.0], {}, 90.0)}}
        >>> rows = make_rows(results, baseline='KD')
        >>> plot_accuracy(Path('curves.png'), rows, 'The digits', teachers=dict(teacher=75.0))
    """
    levels = {f'{name} ({accuracy:.1f} %)': accuracy for name, accuracy in (teachers or {}).items()}
    lines = {}
    for row in sorted(rows, key=lambda row: -row.last.mean):
        epochs, curves = row.curve
        lines[f'{row.method.name} ({curves[:, -1].mean():.1f} %)'] = Line(np.array(epochs), curves)
    counts = [len(row.results) for row in rows]
    most = max(counts)
    count = f'{most}' if min(counts) == most else f'{min(counts)} to {most}'
    spread = (
        f'Line: mean of {count} seeds; band: ± 1 standard deviation, within 0 and 100 %.' if most > 1 else 'One seed.'
    )
    panel = Panel(title, 'epoch', 'top-1 accuracy on the validation images (%)', lines, levels, PERCENT)

    def draw() -> Figure:
        figure = draw_curves([panel], styles(list(lines), list(levels)))
        _note(figure, f'{spread} In brackets: after the last epoch.')
        return figure

    save_png(draw, path)


def plot_differences(path: Path, rows: Sequence[Row], baseline: str, title: str) -> None:
    """Plot the paired difference of every method to the baseline, with its 95 % interval.

    Example:
        >>> from r2kd_mm.report import make_rows
        >>> from r2kd_mm.runs import Method, Result
        >>> kd, r2kd = Method('KD', 'kd.py'), Method('R2KD', 'r2kd.py')
        >>> results = {kd: {0: Result([1], [70.0], {}, 60.0)}, r2kd: {0: Result([1], [72.0], {}, 90.0)}}
        >>> rows = make_rows(results, baseline='KD')
        >>> plot_differences(Path('differences.png'), rows, baseline='KD', title='The digits')
    """
    compared = [(row.method.name, row.difference) for row in rows if row.difference is not None]

    def draw() -> Figure:
        figure = Figure(figsize=(WIDTH, 1.6 + 0.42 * len(compared)))
        axes = figure.subplots()
        axes.axvline(0, color=current_ink(), linewidth=1.2)
        for place, (_, difference) in enumerate(compared):
            if difference.low is not None and difference.high is not None:
                axes.plot([difference.low, difference.high], [place, place], color=COLORS[0], linewidth=2.2)
            axes.plot(difference.mean, place, 'o', color=COLORS[0], markersize=6)
            axes.annotate(
                f'{difference.mean:+.1f}',
                (difference.mean, place),
                xytext=(0, 7),
                textcoords='offset points',
                ha='center',
                fontsize=8,
            )
        axes.set_yticks(range(len(compared)), [name for name, _ in compared])
        axes.set_ylim(len(compared) - 0.4, -0.7)  # first row on top
        axes.set(xlabel=f'accuracy minus that of {baseline} (percentage points)')
        axes.grid(axis='y', visible=False)
        axes.spines['left'].set_visible(False)
        figure.suptitle(title)  # the axes are narrow where the names are long
        _note(
            figure, "Point: mean over seeds of the difference at the last epoch; bar: its 95 % interval (Student's t)."
        )
        return figure

    save_png(draw, path)


def plot_class_correlations(
    path: Path, maps: Mapping[str, NDArray[np.float64]], reference: str, classes: Sequence[str], title: str
) -> None:
    """Plot class-by-class correlation maps, and below each its difference to the reference.

    Args:
        path: The PNG to write.
        maps: Name to correlation matrix, shape ``(classes, classes)``; the reference among them.
        reference: The entry of ``maps`` that the others are compared with: the teacher.
        classes: Names for the axes.
        title: Networks and data set.

    Example:
        >>> maps = dict(teacher=np.eye(2), student=np.array([[1.0, 0.5], [0.5, 1.0]]))
        >>> plot_class_correlations(Path('classes.png'), maps, 'teacher', ['cat', 'dog'], 'Two networks')
    """
    references = {name: maps[reference] for name in maps if name != reference}

    def draw() -> Figure:
        figure = draw_maps(maps, references, classes)
        figure.suptitle(title)
        _note(figure, f'Below each network: its correlations minus those of the {reference}; white: the same.')
        return figure

    save_png(draw, path)


def _note(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=8)
