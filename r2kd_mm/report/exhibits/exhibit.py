"""Define an exhibit, which is one section of the results page, and the helpers that all exhibits use."""

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

PERCENT_BAND = 'Line: mean over seeds; band: one standard deviation, within 0 and 100 %.'
BAR = 'Dot: mean over seeds; bar: one standard deviation, within 0 and 100 %.'


@dataclass(frozen=True)
class Exhibit:
    """A figure with its title, its caption and its numbers.

    Args:
        name: Name of its files, and of its place in the page.
        title: Title above the figure.
        caption: Sentences below the figure: the measure and the images.
        draw: Function that makes the figure.
        header: Names of the columns of its numbers.
        rows: Numbers, a row each.

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


def mean_and_deviation(values: NDArray[np.float64]) -> Points:
    """Compute the mean and the standard deviation over seeds, the first axis."""
    deviations = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
    return Points(values.mean(axis=0), deviations)
