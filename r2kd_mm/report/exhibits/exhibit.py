"""Define the exhibit (one section of the results page) and helpers that all exhibits use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from r2kd_mm.report.figures import Points
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.report.style import Style, styles
from r2kd_mm.runs.statistics import wilson_interval

PERCENT_BAND = 'Line: mean over seeds; band: one standard deviation, within 0 and 100 %.'
SEED_BAR = 'Dot: mean over seeds; bar: one standard deviation of the seeds, within 0 and 100 %.'
IMAGE_BAR = 'Bar: 95 % interval by the number of images (Wilson); it says nothing about the seed.'


@dataclass(frozen=True)
class Exhibit:
    """Figure with title, caption and the numbers that it shows.

    Args:
        name: Base name of the PNG and CSV files, and HTML anchor on the page.
        title: Title above the figure.
        caption: Sentences below the figure: what is measured, on which images.
        draw: Function that makes the figure.
        header: Column names of the CSV file.
        rows: Rows of the CSV file.

    Example:
        >>> exhibit = Exhibit('losses', 'Losses', 'Mean over seeds.', Figure, header=['epoch', 'loss'], rows=[[1, 0.5]])
        >>> exhibit.title
        'Losses'
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


def styles_of(found: Measurements) -> dict[str, Style]:
    """Choose the look of every method and teacher."""
    return styles([method.name for method in found.methods], list(found.teachers()))


def points(values: NDArray[np.float64], counts: NDArray) -> Points:
    """Compute the mean over seeds, and one standard deviation; of one seed, the interval by the number of images.

    Args:
        values: Percentages, shape ``(seeds, rows)``.
        counts: Number of images of each row.
    """
    means = values.mean(axis=0)
    if len(values) > 1:
        deviations = values.std(axis=0, ddof=1)
        return Points(means, means - deviations, means + deviations)
    known = ~np.isnan(means)
    low, high = np.full((2, len(means)), np.nan)
    for place in np.flatnonzero(known):
        count = int(counts[place])
        low[place], high[place] = wilson_interval(round(means[place] / 100 * count), count)
    return Points(means, 100 * low, 100 * high)


def bars_of(found: Measurements) -> str:
    """Say what the bars of :func:`points` are."""
    several = {len(method.students) > 1 for method in found.methods}
    if several == {True, False}:
        return f'{SEED_BAR} Of a method with one seed: {IMAGE_BAR[0].lower()}{IMAGE_BAR[1:]}'
    return SEED_BAR if True in several else IMAGE_BAR
