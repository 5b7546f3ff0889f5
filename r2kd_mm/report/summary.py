"""Make the table at the top of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from r2kd_mm.functional import agreement
from r2kd_mm.metrics import calibration_error
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.report.numbers import bins_of, spread_text
from r2kd_mm.runs import accuracy
from r2kd_mm.runs.logs import METRIC


@dataclass(frozen=True)
class Summary:
    """The table at the top: header, rows as text, and the same rows as numbers.

    Example:
        >>> summary = Summary(header=['method', 'accuracy, %'], rows=[['KD', '70.00']], numbers=[['KD', 70.0]])
        >>> summary.rows[0]
        ['KD', '70.00']
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[Sequence[Any]]


def make_summary(found: Measurements) -> Summary:
    """Make a row for each method and one for each teacher.

    Example:
        >>> from r2kd_mm.report import find_groups, measure
        >>> found = measure(find_groups(['work_dirs']), 100, corruptions=[], report=lambda line: None)
        >>> [row[0] for row in make_summary(found).rows]
        ['KD', 'R2KD', 'teacher', 'teacher + pruned teacher']
    """
    header = [
        'method', 'seeds', 'last epoch, %', 'best epoch, %', 'agreement, %', 'ECE, %', 'corrupted, %', 'parameters',
        'FLOPs', 'latency, ms',
    ]  # fmt: skip
    numbers: list[list[Any]] = []
    for method in found.methods:
        series = [run.scalars[METRIC].values for run in method.group.runs if METRIC in run.scalars]
        measured = (
            [values[-1] for values in series],
            [values.max() for values in series],
            [agreement(logits, target) for logits in method.students]
            if (target := found.target_of(method)) is not None
            else [],
            [100 * calibration_error(bins_of(logits, found.labels)) for logits in method.students],
            np.mean(list(method.corrupted.values()), axis=0) if method.corrupted else [],
        )
        numbers.append([method.name, len(method.group.runs), *measured, *astuple(method.cost)])
    for name, teacher in found.teachers().items():
        corrupted = list(teacher.corrupted.values())
        numbers.append(
            [
                name, '', [accuracy(teacher.logits, found.labels)], [], [],
                [100 * calibration_error(bins_of(teacher.logits, found.labels))],
                [np.mean(corrupted)] if corrupted else [], *astuple(teacher.cost),
            ]
        )  # fmt: skip
    rows = [
        [row[0], str(row[1]), *map(spread_text, row[2:7]), f'{row[7]:,}', f'{row[8]:,}', f'{row[9]:.2f}']
        for row in numbers
    ]
    plain = [[*row[:2], *(float(np.mean(x)) if len(x) else '' for x in row[2:7]), *row[7:]] for row in numbers]
    return Summary(header, rows, plain)
