"""Run a comparison: skip the runs that are finished, train the others, and collect the results of all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from r2kd_mm.engine import clear_errors
from r2kd_mm.moved import old_names
from r2kd_mm.runs.plan import Method, Run
from r2kd_mm.runs.progress import ProgressPrinter
from r2kd_mm.runs.result import Result, load_result
from r2kd_mm.runs.state import State, look_at
from r2kd_mm.runs.workers import train_all

__getattr__ = old_names(__name__)


def complete(runs: Sequence[Run], jobs: int, threads: int = 1) -> dict[Run, str]:
    """Train the runs that are not finished, in at most ``jobs`` processes, and print their progress.

    Args:
        runs: All runs, finished ones included.
        jobs: Number of runs at a time.
        threads: Threads of each process.

    Returns:
        The runs that failed, and why.

    Example:
        >>> from pathlib import Path
        >>> from r2kd_mm.runs import Method, plan_runs
        >>> runs = plan_runs([Method('KD', 'kd.py')], seeds=[0], folder=Path('work_dirs'))
        >>> complete(runs, jobs=2)
        1 of 1 runs are finished and are not repeated
        {}
    """
    states = look_at(runs)
    counts = {state: sum(found is state for found in states.values()) for state in State}
    if counts[State.FINISHED]:
        print(f'{counts[State.FINISHED]} of {len(runs)} runs are finished and are not repeated')
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
    pending = [run for run in runs if states[run] is not State.FINISHED]
    if not pending:
        return {}
    print(f'{len(pending)} runs to train, {min(jobs, len(pending))} at a time', flush=True)
    printer = ProgressPrinter(len(pending))
    train_all(pending, jobs, printer, threads)
    return printer.failures


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
