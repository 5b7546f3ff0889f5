"""Make the summary table at the top of the results page: one row for each method and each teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from r2kd_mm.functional import agreement
from r2kd_mm.metrics import calibration_error
from r2kd_mm.report.measurements import Cost, MeasuredMethod, MeasuredTeacher, Measurements
from r2kd_mm.report.numbers import bins_of, interval_text, spread_text
from r2kd_mm.runs import accuracy
from r2kd_mm.runs.logs import METRIC


@dataclass(frozen=True)
class Summary:
    """Summary table of the page: header, rows as text, and the same rows as numbers.

    Example:
        >>> summary = Summary(header=['method', 'accuracy, %'], rows=[['KD', '70.00']], numbers=[['KD', 70.0]])
        >>> summary.rows[0]
        ['KD', '70.00']
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[Sequence[Any]]


def make_summary(found: Measurements) -> Summary:
    """Make a row for each method and one for each teacher, the most accurate first.

    Example:
        >>> from r2kd_mm.report import find_groups, measure
        >>> found = measure(find_groups(['work_dirs']), 100, corruptions=[], report=lambda line: None)
        >>> sorted(row[0] for row in make_summary(found).rows)
        ['KD', 'R2KD', 'teacher', 'teacher + pruned teacher']
    """
    header = [
        'method', 'seeds', 'last epoch, %', '95 % interval, %', 'best epoch, %', 'agreement, %', 'ECE, %',
        'corrupted, %', 'parameters', 'FLOPs', 'latency, ms',
    ]  # fmt: skip
    lines = [_line_of_method(found, method) for method in found.methods]
    lines += [_line_of_teacher(found, name, teacher) for name, teacher in found.teachers().items()]
    lines.sort(key=lambda line: -np.mean(line.last) if len(line.last) else math.inf)
    rows, numbers = [], []
    for line in lines:
        interval = interval_text(line.last, line.num_images)
        measured = (line.best, line.agreement, line.ece, line.corrupted)
        parameters, flops, latency = astuple(line.cost)
        rows.append(
            [
                line.name, line.seeds, spread_text(line.last), interval, *map(spread_text, measured),
                f'{parameters:,}', f'{flops:,}', f'{latency:.2f}',
            ]
        )  # fmt: skip
        means = [float(np.mean(values)) if len(values) else '' for values in (line.last, *measured)]
        numbers.append([line.name, line.seeds, means[0], interval, *means[1:], parameters, flops, latency])
    return Summary(header, rows, numbers)


@dataclass(frozen=True)
class _Line:
    """Hold the numbers of a network over its seeds; empty where they are not known."""

    name: str
    seeds: str
    last: Sequence[float]
    num_images: int | None
    best: Sequence[float]
    agreement: Sequence[float]
    ece: Sequence[float]
    corrupted: Sequence[float]
    cost: Cost


def _line_of_method(found: Measurements, method: MeasuredMethod) -> _Line:
    runs = method.group.runs
    series = [run.scalars[METRIC].values for run in runs if METRIC in run.scalars]
    target = found.target_of(method)
    return _Line(
        method.name,
        str(len(runs)),
        last=[float(values[-1]) for values in series],
        num_images=runs[0].val_data.get('images'),
        best=[float(values.max()) for values in series],
        agreement=[] if target is None else [agreement(logits, target) for logits in method.students],
        ece=[100 * calibration_error(bins_of(logits, found.labels)) for logits in method.students],
        corrupted=np.mean(list(method.corrupted.values()), axis=0) if method.corrupted else [],
        cost=method.cost,
    )


def _line_of_teacher(found: Measurements, name: str, teacher: MeasuredTeacher) -> _Line:
    corrupted = list(teacher.corrupted.values())
    return _Line(
        name,
        '',
        last=[accuracy(teacher.logits, found.labels)],
        num_images=len(found.labels),
        best=[],
        agreement=[],
        ece=[100 * calibration_error(bins_of(teacher.logits, found.labels))],
        corrupted=[float(np.mean(corrupted))] if corrupted else [],
        cost=teacher.cost,
    )
