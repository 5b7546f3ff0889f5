"""Print which runs of a comparison have ended, how far the other runs are, and the estimated time left."""

from __future__ import annotations

import math
import sys
import time
from typing import TextIO

from r2kd_mm.runs.plan import Run
from r2kd_mm.runs.result import load_result

_MOST_LINES = 20  # of running runs
_SECONDS_BETWEEN_LINES = 30.0  # where the output is no terminal, to show that something happens


class ProgressPrinter:
    """Printer of progress: one line per ended run, the share done of each running run, and the total time left.

    The time left assumes that the remaining runs are as fast as the work so far.

    Args:
        count: Number of runs to train.
        stream: Stream to print to; standard output by default. On a terminal, the lines of the running runs are
            overwritten; elsewhere they are printed every half minute.
    """

    def __init__(self, count: int, stream: TextIO | None = None) -> None:
        self.count = count
        self.stream = stream or sys.stdout
        self.failures: dict[Run, str] = {}
        self._shares: dict[Run, float] = {}
        self._earlier: dict[Run, float] = {}  # what was trained before this call
        self._ended: set[Run] = set()
        self._block = 0  # lines to write over
        self._began = self._last_line = time.monotonic()

    def advanced(self, run: Run, share: float) -> None:
        """Note that a share of the run is done."""
        self._earlier[run] = min(share, self._earlier.get(run, share))  # less, once an old run is set aside
        self._shares[run] = share

    def finished(self, run: Run) -> None:
        """Print the accuracy of the run."""
        result = load_result(run)
        self._end(run, f'{result.last:5.2f} % after epoch {result.epochs[-1]}, {format_seconds(result.seconds)}')

    def failed(self, run: Run, reason: str) -> None:
        """Print why the run failed."""
        self.failures[run] = reason
        self._end(run, f'FAILED: {reason}')

    def restarted(self, run: Run, reason: str) -> None:
        """Print why the run is resumed."""
        self._print([f'{run}: {reason}; resumed from its last checkpoint'])

    def tick(self) -> None:
        """Show the running runs and the time left."""
        running = [f'  {run}: {share:.0%}' for run, share in self._shares.items() if run not in self._ended]
        hidden = len(running) - _MOST_LINES
        if hidden > 0:
            running[_MOST_LINES:] = [f'  and {hidden} others']
        lines = [*running, f'[{len(self._ended)}/{self.count}] {"" if running else "starting; "}{self._time_left()}']
        if self.stream.isatty():
            self._clear()
            print('\n'.join(lines), end='', file=self.stream, flush=True)
            self._block = len(lines)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._print(lines)

    def _end(self, run: Run, text: str) -> None:
        self._earlier.setdefault(run, 0.0)
        self._shares[run] = 1.0
        self._ended.add(run)
        self._print([f'[{len(self._ended)}/{self.count}] {run}: {text}; {self._time_left()}'])

    def _print(self, lines: list[str]) -> None:
        self._last_line = time.monotonic()
        self._clear()
        print('\n'.join(lines), file=self.stream, flush=True)

    def _clear(self) -> None:
        if self._block:
            up = f'\033[{self._block - 1}A' if self._block > 1 else ''
            print(f'\r{up}\033[J', end='', file=self.stream)
            self._block = 0

    def _time_left(self) -> str:
        done = math.fsum(self._shares.values()) - math.fsum(self._earlier.values())
        if done <= 0:
            return 'time left not known yet'
        rest = self.count - math.fsum(self._shares.values())
        return f'{format_seconds((time.monotonic() - self._began) * rest / done)} left'


def format_seconds(seconds: float) -> str:
    """Format a duration; hours come without seconds.

    >>> format_seconds(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f'{minutes // 60} h {minutes % 60:02d} min'
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'
