"""Run a comparison of methods: train the runs that are not finished, and collect the results of all runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from r2kd_mm.engine import clear_errors
from r2kd_mm.moved import old_names
from r2kd_mm.runs.grid import Engine, train_all
from r2kd_mm.runs.lock import hold
from r2kd_mm.runs.plan import Method, Run
from r2kd_mm.runs.progress import ProgressPrinter, format_seconds
from r2kd_mm.runs.result import Result, load_result
from r2kd_mm.runs.state import State, look_at
from r2kd_mm.runs.training import read_share

__getattr__ = old_names(__name__)

_LOCK = 'driver.lock'
_PREVIEWS = {
    State.NEW: 'train',
    State.CHANGED: 'train again, since its folder holds a run of another config or teacher',
    State.SET_ASIDE: 'put back what was set aside, and finish it',
}


def complete(runs: Sequence[Run], engine: Engine) -> dict[Run, str]:
    """Train the runs that are not finished, and print their progress.

    Args:
        runs: All runs, finished ones included.
        engine: Engine that trains the runs, such as ``LocalEngine``.

    Returns:
        The reason of each failed run.

    Raises:
        Held: Another command trains runs in the same folder.
        TypeError: ``engine`` is a number of jobs, as in version 0.1.

    Example:
        >>> from pathlib import Path
        >>> from r2kd_mm.runs import LocalEngine, Method, plan_runs
        >>> runs = plan_runs([Method('KD', 'kd.py')], seeds=[0], folder=Path('work_dirs'))
        >>> complete(runs, LocalEngine(jobs=2))
        1 of 1 runs are finished and are not repeated
        {}
    """
    if isinstance(engine, int):
        raise TypeError(f'complete takes an engine, got {engine}; for so many runs at a time: LocalEngine({engine})')
    with sole_driver({run.folder.parent.parent: None for run in runs}):
        states = look_at(runs)
        pending = [run for run in runs if states[run] is not State.FINISHED]
        _print_states(states)
        if not pending:
            return {}
        print(f'{len(pending)} runs to train {engine}', flush=True)
        printer = ProgressPrinter(len(pending))
        train_all(pending, engine, printer)
        return printer.failures


@contextlib.contextmanager
def sole_driver(folders: Iterable[Path]) -> Iterator[None]:
    """Keep other commands from training runs in these folders.

    Raises:
        Held: One does.
    """
    with contextlib.ExitStack() as locks:
        for folder in folders:
            refusal = f'{str(folder)!r} is in use by {{owner}}, which trains runs there; wait, or give another folder'
            locks.enter_context(hold(folder / _LOCK, refusal))
        yield


def preview(runs: Sequence[Run], engine: Engine) -> str:
    """Say what :func:`complete` would do, where, and for how long by the runs that are finished.

    A run takes as long as the finished ones of its method, or as all finished ones where its method has none.

    Example:
        >>> from pathlib import Path
        >>> from r2kd_mm.runs import LocalEngine, Method, plan_runs
        >>> runs = plan_runs([Method('KD', 'kd.py')], seeds=[0], folder=Path('work_dirs'))
        >>> print(preview(runs, LocalEngine(jobs=2)))
        0 of 1 runs to train on this machine, 2 at a time
    """
    states = look_at(runs)
    known: dict[Method, list[float]] = {}
    for run, state in states.items():
        if state is State.FINISHED:
            known.setdefault(run.method, []).append(load_result(run).seconds)
    every = [seconds for times in known.values() for seconds in times]
    lines, total = [], 0.0
    for run, state in states.items():
        if state is State.FINISHED:
            continue
        times = known.get(run.method, every)
        share = read_share(run) if state is State.INTERRUPTED else 0.0
        seconds = (1 - share) * fmean(times) if times else 0.0
        total += seconds
        what = f'resume at {share:.0%}' if state is State.INTERRUPTED else _PREVIEWS[state]
        lines.append(f'{run}: {what}{f", about {format_seconds(seconds)}" if times else ""}')
    lines.append(f'{len(lines)} of {len(runs)} runs to train {engine}')
    if lines[:-1]:
        if not every:
            lines.append('no run is finished yet, so the time is not known')
        elif engine.slots is None:
            lines.append(f'about {format_seconds(total)} of training in all')
        else:
            lines.append(f'about {format_seconds(total / min(engine.slots, len(lines) - 1))}')
    return '\n'.join(lines)


def _print_states(states: Mapping[Run, State]) -> None:
    finished = sum(state is State.FINISHED for state in states.values())
    if finished:
        print(f'{finished} of {len(states)} runs are finished and are not repeated')
    for run, state in states.items():
        if state is State.CHANGED:
            if run.set_aside.exists():
                kept = f'what is there was never finished and is deleted, and {run.set_aside.name} is kept'
            else:
                kept = f'what is there is kept as {run.set_aside.name}'
            print(
                f'{run}: its folder holds {state.value}, so it is trained again; {kept} until the new one is finished'
            )
        elif state is State.SET_ASIDE:
            print(f'{run}: was set aside for a run of another config or teacher, which it now replaces')
        elif state is State.INTERRUPTED:
            print(f'{run}: was interrupted, so it is resumed from its last checkpoint')


def collect(runs: Sequence[Run], failures: dict[Run, str]) -> dict[Method, dict[int, Result]]:
    """Read the results of the runs that did not fail, by method and seed.

    Example:
        >>> from pathlib import Path
        >>> from r2kd_mm.runs import Method, plan_runs
        >>> runs = plan_runs([Method('KD', 'kd.py')], seeds=[0], folder=Path('work_dirs'))
        >>> [(method.name, list(by_seed)) for method, by_seed in collect(runs, failures={}).items()]
        [('KD', [0])]
    """
    results: dict[Method, dict[int, Result]] = {run.method: {} for run in runs}
    for run in runs:
        if run not in failures:
            results[run.method][run.seed] = load_result(run)
    return results


def report_failures(failures: dict[Run, str]) -> int:
    """Print what failed on standard error; return the exit status.

    Example:
        >>> from pathlib import Path
        >>> from r2kd_mm.runs import Method, plan_runs
        >>> runs = plan_runs([Method('KD', 'kd.py')], seeds=[0], folder=Path('work_dirs'))
        >>> report_failures({runs[0]: 'the disk is full'})  # prints "failed: KD, seed 0: the disk is full"
        1
    """
    for run, reason in failures.items():
        print(f'failed: {run}: {reason}', file=sys.stderr)
    return 1 if failures else 0


def run_to_exit(task: Callable[[], int]) -> None:
    """Run ``task`` and exit with the status that it returns; after Ctrl-C, say how to resume.

    Example:
        >>> run_to_exit(lambda: 0)
        Traceback (most recent call last):
        ...
        SystemExit: 0
    """
    with clear_errors():
        try:
            sys.exit(task())
        except KeyboardInterrupt:
            print(
                '\ninterrupted; the same command skips what is finished and resumes from the last checkpoints',
                file=sys.stderr,
            )
            sys.exit(1)
