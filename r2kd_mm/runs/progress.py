"""Show the progress of a comparison to the person who waits for it."""

from __future__ import annotations

import math
import sys
import time
from typing import TextIO

from r2kd_mm.runs.plan import Run
from r2kd_mm.runs.result import load_result

_SECONDS_BETWEEN_LINES = 30.0  # where the output is no terminal, to show that something happens


class ProgressPrinter:
    """Print a line for each run that ends, and in between a changing line with the time left for all runs.

    The time left assumes that the rest of the work is as fast as the work so far.

    Args:
        count: Number of runs to train.
        stream: Stream to print to; standard output by default. The changing line needs a terminal; elsewhere a line
            is printed every half minute.
    """

    def __init__(self, count: int, stream: TextIO | None = None) -> None:
        self.count = count
        self.stream = stream or sys.stdout
        self.failures: dict[Run, str] = {}
        self._shares: dict[Run, float] = {}
        self._ended = 0
        self._began = self._last_line = time.monotonic()

    def started(self, run: Run) -> None:
        """Note that a worker took the run."""
        self._shares[run] = 0.0

    def advanced(self, run: Run, share: float) -> None:
        """Note that a share of the run is done."""
        self._shares[run] = share

    def finished(self, run: Run) -> None:
        """Print the accuracy of the run."""
        result = load_result(run)
        self._end(run, f'{result.last:5.2f} % after epoch {result.epochs[-1]}, {format_seconds(result.seconds)}')

    def failed(self, run: Run, reason: str) -> None:
        """Print why the run failed."""
        self.failures[run] = reason
        self._end(run, f'FAILED: {reason}')

    def tick(self) -> None:
        """Show the running runs and the time left."""
        running = ', '.join(f'{run} {share:.0%}' for run, share in self._shares.items() if share < 1)
        line = f'[{self._ended}/{self.count}] {running or "starting"}; {self._time_left()}'
        if self.stream.isatty():
            print(f'\r\033[K{line}', end='', file=self.stream, flush=True)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._print(line)

    def _end(self, run: Run, text: str) -> None:
        self._shares[run] = 1.0
        self._ended += 1
        self._print(f'[{self._ended}/{self.count}] {run}: {text}; {self._time_left()}')

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        clear = '\r\033[K' if self.stream.isatty() else ''
        print(f'{clear}{line}', file=self.stream, flush=True)

    def _time_left(self) -> str:
        done = math.fsum(self._shares.values())
        if done == 0:
            return 'time left not known yet'
        return f'{format_seconds((time.monotonic() - self._began) * (self.count - done) / done)} left'


def format_seconds(seconds: float) -> str:
    """Format a duration; hours come without seconds.

    >>> format_seconds(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f'{minutes // 60} h {minutes % 60:02d} min'
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'
