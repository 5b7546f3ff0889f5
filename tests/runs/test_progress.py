"""A comparison prints its progress and the time that is left."""

import io
from pathlib import Path

import pytest

from r2kd_mm.runs import Method, Result, progress
from r2kd_mm.runs.plan import Run

RUNS = [Run(Method('kd', 'kd.py'), seed, Path('runs')) for seed in range(4)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that the test sets, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(progress, 'load_result', lambda run: Result([10], [81.234], {}, 75.0))
    return now


def test_each_run_that_ends_has_a_line_with_the_time_left_for_all(clock):
    stream = io.StringIO()
    printer = progress.ProgressPrinter(len(RUNS), stream)
    printer.advanced(RUNS[0], 0.0)
    clock[0] = 30
    printer.finished(RUNS[0])
    assert stream.getvalue() == '[1/4] kd, seed 0: 81.23 % after epoch 10, 1 min 15 s; 1 min 30 s left\n'


def test_parts_of_runs_count_for_the_time_left(clock):
    stream = Terminal()
    printer = progress.ProgressPrinter(4, stream)
    for run, share in zip(RUNS, (0.5, 0.25)):
        printer.advanced(run, 0.0)
        printer.advanced(run, share)
    clock[0] = 30
    printer.tick()
    assert stream.getvalue() == '  kd, seed 0: 50%\n  kd, seed 1: 25%\n[0/4] 2 min 10 s left'
    printer.restarted(RUNS[0], 'its machine went away')  # over the three lines
    assert stream.getvalue().endswith(
        '\r\033[2A\033[Jkd, seed 0: its machine went away; resumed from its last checkpoint\n'
    )


def test_what_was_trained_before_does_not_make_the_rest_look_fast(clock):
    stream = Terminal()
    printer = progress.ProgressPrinter(1, stream)
    printer.advanced(RUNS[0], 0.5)  # as it was resumed
    clock[0] = 30
    printer.advanced(RUNS[0], 0.75)
    printer.tick()
    assert stream.getvalue().endswith('[0/1] 30 s left')


def test_what_another_config_trained_does_not_count_once_it_is_set_aside(clock):
    stream = Terminal()
    printer = progress.ProgressPrinter(1, stream)
    printer.advanced(RUNS[0], 1.0)  # of the run that is still in the folder
    printer.advanced(RUNS[0], 0.0)
    clock[0] = 30
    printer.advanced(RUNS[0], 0.5)
    printer.tick()
    assert stream.getvalue().endswith('[0/1] 30 s left')


def test_the_lines_of_many_runs_are_limited(clock):
    stream = Terminal()
    printer = progress.ProgressPrinter(30, stream)
    for seed in range(30):
        printer.advanced(Run(Method('kd', 'kd.py'), seed, Path('runs')), 0.0)
    printer.tick()
    assert stream.getvalue().splitlines()[20:] == ['  and 10 others', '[0/30] time left not known yet']


def test_a_failure_is_shown_and_kept(clock):
    stream = io.StringIO()
    printer = progress.ProgressPrinter(4, stream)
    printer.advanced(RUNS[0], 0.0)
    printer.failed(RUNS[0], 'no teacher')
    assert '[1/4] kd, seed 0: FAILED: no teacher' in stream.getvalue()
    assert printer.failures == {RUNS[0]: 'no teacher'}


def test_a_file_gets_a_line_now_and_then(clock):
    stream = io.StringIO()
    printer = progress.ProgressPrinter(4, stream)
    printer.advanced(RUNS[0], 0.0)
    for second in range(65):
        clock[0] = second
        printer.tick()
    assert stream.getvalue() == 2 * '  kd, seed 0: 0%\n[0/4] time left not known yet\n'


@pytest.mark.parametrize(
    ('seconds', 'text'), [(5.4, '5 s'), (75, '1 min 15 s'), (3600, '1 h 00 min'), (7325, '2 h 02 min')]
)
def test_durations_are_written_as_one_says_them(seconds, text):
    assert progress.format_seconds(seconds) == text
