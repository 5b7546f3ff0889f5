"""Turn the results of a comparison of methods into a Markdown table and a JSON file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from r2kd_mm.engine import AtomicLocalBackend
from r2kd_mm.environment import environment
from r2kd_mm.moved import old_names
from r2kd_mm.runs import Difference, Method, Result, Spread, paired_difference, spread
from r2kd_mm.runs.statistics import FEWEST_SEEDS

__getattr__ = old_names(__name__)


@dataclass(frozen=True)
class Row:
    """All results of one method, with accuracies in percent.

    Args:
        method: The method.
        results: Result of each run that did not fail, by seed; at least one.
        difference: Difference to the baseline after the last epoch, paired by seed; ``None`` for the baseline itself.

    Example:
        >>> result = Result(epochs=[1, 2], accuracy=[72.0, 71.0], teachers={}, seconds=60.0)
        >>> Row(Method('KD', 'kd.py'), {0: result}).last
        Spread(mean=71.0, std=None)
    """

    method: Method
    results: Mapping[int, Result]
    difference: Difference | None = None

    @property
    def last(self) -> Spread:
        """Accuracy after the last epoch, over seeds."""
        return spread([result.last for result in self.results.values()])

    @property
    def best(self) -> Spread | None:
        """Accuracy of the best epoch, over seeds; ``None`` where a run does not know it."""
        known = [result.best for result in self.results.values() if result.best is not None]
        return spread(known) if len(known) == len(self.results) else None

    @property
    def curve(self) -> tuple[list[int], np.ndarray]:
        """The epochs that every run measured, and the accuracy there, shape ``(seeds, epochs)``."""
        epochs = sorted(set.intersection(*(set(result.epochs) for result in self.results.values())))
        curves = [dict(zip(result.epochs, result.accuracy)) for result in self.results.values()]
        return epochs, np.array([[curve[epoch] for epoch in epochs] for curve in curves])


def make_rows(results: Mapping[Method, Mapping[int, Result]], baseline: str | None = None) -> list[Row]:
    """Make one row for each method that has a result, in the given order.

    Args:
        results: Method to seed to result.
        baseline: Name of the method that the others are compared with.

    Raises:
        ValueError: There is no such method.

    Example:
        >>> kd, r2kd = Method('KD', 'kd.py'), Method('R2KD', 'r2kd.py')
        >>> results = {kd: {0: Result([1], [70.0], {}, 60.0)}, r2kd: {0: Result([1], [72.0], {}, 90.0)}}
        >>> [row.difference for row in make_rows(results, baseline='KD')]
        [None, Difference(mean=2.0, low=None, high=None, count=1)]
    """
    names = {method.name: method for method in results}
    if baseline is not None and baseline not in names:
        raise ValueError(f'--baseline {baseline!r} is none of the methods that are compared: {", ".join(names)}')
    reference = {} if baseline is None else _last(results[names[baseline]])
    return [
        Row(method, by_seed, None if method.name == baseline else paired_difference(_last(by_seed), reference))
        for method, by_seed in results.items()
        if by_seed
    ]


def to_markdown(rows: Sequence[Row], baseline: str | None = None, teachers: Mapping[str, float] | None = None) -> str:
    """Format the comparison as a Markdown table; its foot gives accuracy of the teachers and compute, where known.

    Example:
        >>> results = {Method('KD', 'kd.py'): {0: Result([1], [70.0], {}, 60.0)}}
        >>> print(to_markdown(make_rows(results), teachers=dict(teacher=75.0)), end='')
        | method  | last epoch, % | best epoch, % | seeds |
        | ---     | ---           | ---           | ---   |
        | KD      | 70.00         | 70.00         | 1     |
        | teacher | 75.00         |               |       |
    """
    results = [result for row in rows for result in row.results.values()]
    if all(result.test for result in results):
        header = ['method', 'test, last epoch, %', 'test, epoch chosen by validation, %', 'seeds']
    else:
        header = ['method', 'last epoch, %', 'best epoch, %', 'seeds']
    if baseline is not None:
        header.insert(3, f'last epoch against {baseline}, points [95 % interval]')
    lines = [header]
    for row in rows:
        cells = [row.method.name, format_spread(row.last), format_spread(row.best), str(len(row.results))]
        if baseline is not None:
            cells.insert(3, _difference_cell(row) if row.method.name != baseline else 'baseline')
        lines.append(cells)
    for name, accuracy in (teachers or {}).items():
        lines.append([name, f'{accuracy:.2f}'] + [''] * (len(header) - 2))
    times = [result.cpu_seconds for result in results if result.cpu_seconds is not None]
    if len(times) == len(results):
        hours = f'{math.fsum(times) / 3600:.2f} processor hours'
        lines.append(['all', hours] + [''] * (len(header) - 3) + [f'{len(results)} runs'])
    return markdown_table(lines)


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Format lines of cells, the header first, as a Markdown table that is aligned in its source too.

    Example:
        >>> print(markdown_table([['method', 'seeds'], ['KD', '5']]), end='')
        | method | seeds |
        | ---    | ---   |
        | KD     | 5     |
    """
    lines = [lines[0], ['---'] * len(lines[0]), *lines[1:]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return (
        '\n'.join('| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths)) + ' |' for line in lines)
        + '\n'
    )


def write_results(path: Path, rows: Sequence[Row], baseline: str | None = None) -> None:
    """Write every number of the comparison, and where it was measured, as JSON.

    Example:
        >>> rows = make_rows({Method('KD', 'kd.py'): {0: Result([1], [70.0], {}, 60.0)}})
        >>> write_results(Path('results.json'), rows)
        >>> json.loads(Path('results.json').read_text())['methods'][0]['last']
        {'mean': 70.0, 'std': None}
    """
    methods = [
        dict(
            name=row.method.name,
            config=os.path.relpath(row.method.config),
            options=dict(row.method.options),
            last=asdict(row.last),
            best=None if row.best is None else asdict(row.best),
            difference=None if row.difference is None else asdict(row.difference),
            runs={
                seed: dict(asdict(result), last=result.last, best=result.best) for seed, result in row.results.items()
            },
        )
        for row in rows
    ]
    content = dict(metric='top-1 accuracy, %', baseline=baseline, methods=methods, environment=environment())
    AtomicLocalBackend().put_text(json.dumps(content, indent=2, default=str) + '\n', path)


def _difference_cell(row: Row) -> str:
    """Format the difference; add the number of common seeds where the baseline lacks some."""
    text = format_difference(row.difference)
    if row.difference is None or row.difference.low is None or row.difference.count == len(row.results):
        return text
    return f'{text} ({row.difference.count} seeds)'


def format_difference(difference: Difference | None) -> str:
    """Format a difference with its interval, or say why it has none.

    >>> format_difference(Difference(1.2, 0.5, 1.9, 3)), format_difference(Difference(1.2, None, None, 2))
    ('+1.20 [+0.50, +1.90]', '+1.20 [2 seeds]')
    """
    if difference is None:
        return 'no common seed'
    if difference.low is None:
        count = 'one seed' if difference.count == 1 else f'{difference.count} seeds'
        return f'{difference.mean:+.2f} [{"equal in " if difference.count >= FEWEST_SEEDS else ""}{count}]'
    return f'{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]'


def format_spread(value: Spread | None) -> str:
    """Format a mean with its standard deviation.

    >>> format_spread(Spread(70.12, 0.31))
    '70.12 ± 0.31'
    """
    if value is None:
        return 'not known'
    return f'{value.mean:.2f}' if value.std is None else f'{value.mean:.2f} ± {value.std:.2f}'


def _last(results: Mapping[int, Result]) -> dict[int, float]:
    return {seed: result.last for seed, result in results.items()}
