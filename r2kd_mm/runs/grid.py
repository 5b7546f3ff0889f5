"""Train runs on an engine (local processes, Ray or SLURM), and resume runs whose process died."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from r2kd_mm.runs import lock
from r2kd_mm.runs.plan import Run, load_config
from r2kd_mm.runs.state import State, state_of
from r2kd_mm.runs.training import read_share, train


class Outcome(Enum):
    """Outcome of one attempt to train a run."""

    FINISHED = 'its result is saved'
    FAILED = 'an error of its own; another try would meet it again'
    DIED = 'its process or its machine ended'
    HELD = 'another process trains it, which a killed driver left behind'


@dataclass(frozen=True)
class Ended:
    """The end of the work on a run.

    Args:
        run: The run.
        outcome: What became of it.
        reason: Why, of one that is not finished.
    """

    run: Run
    outcome: Outcome
    reason: str = ''


class Engine(Protocol):
    """A place where runs are trained, and its queue.

    An engine starts the runs in the order that it got them, several at a time, each by :func:`train_and_log`. Whether
    a run is tried again is decided by :func:`train_all`.
    """

    @property
    def slots(self) -> int | None:
        """Number of runs at a time; ``None`` where a cluster decides."""

    def __str__(self) -> str:
        """Say where runs are trained."""

    def submit(self, runs: Sequence[Run]) -> None:
        """Queue runs."""

    def wait(self) -> list[Ended]:
        """Wait a moment, and return the runs whose work has ended since."""

    def stop(self) -> None:
        """Stop what still runs."""


class Listener(Protocol):
    """A follower of the progress of the runs."""

    def advanced(self, run: Run, share: float) -> None:
        """Note that the run is being trained, and how much of it is done."""

    def finished(self, run: Run) -> None:
        """Note that the run is finished and its result saved."""

    def failed(self, run: Run, reason: str) -> None:
        """Note that the run ended without a result."""

    def restarted(self, run: Run, reason: str) -> None:
        """Note that the process of the run ended, and that the run is resumed from its last checkpoint."""

    def tick(self) -> None:
        """Note that a moment has passed."""


def train_all(runs: Sequence[Run], engine: Engine, listener: Listener) -> None:
    """Train ``runs``; when one fails, the others continue.

    A run whose process dies is resumed. If it dies again before it got further, it has failed.
    """
    waiting = dict.fromkeys(runs)
    deaths: dict[Run, float] = {}
    held: dict[Run, _Orphan] = {}
    try:
        engine.submit(runs)
        while waiting:
            for ended in engine.wait():
                run, outcome, reason = ended.run, ended.outcome, ended.reason
                if outcome is Outcome.HELD:
                    held[run] = _Orphan(run)
                    continue
                if outcome is Outcome.DIED and _is_finished(run):
                    outcome = Outcome.FINISHED
                if outcome is Outcome.DIED:
                    before, deaths[run] = deaths.get(run), read_share(run)
                    if before is None or deaths[run] > before:
                        listener.restarted(run, reason)
                        engine.submit([run])
                        continue
                del waiting[run]
                if outcome is Outcome.FINISHED:
                    listener.finished(run)
                else:
                    listener.failed(run, f'{reason}; see {run.output_file}')
            for run in [run for run, orphan in held.items() if orphan.is_gone()]:
                del held[run]
                engine.submit([run])  # which finds out whether it was finished
            for run in waiting:
                if lock.owner_of(run.lock_file) is not None:
                    listener.advanced(run, read_share(run))
            listener.tick()
    finally:
        engine.stop()


def _is_finished(run: Run) -> bool:
    """Tell whether the folder holds this run, finished; it may hold a run of another config until the work begins."""
    return state_of(run, load_config(run)) is State.FINISHED


class _Orphan:
    """A run that a process of an earlier driver still trains."""

    def __init__(self, run: Run) -> None:
        self._path = run.lock_file
        self._sign, self._since = lock.last_sign(self._path), time.monotonic()

    def is_gone(self) -> bool:
        sign = lock.last_sign(self._path)
        if sign != self._sign:
            self._sign, self._since = sign, time.monotonic()
        return lock.is_free(self._path) or time.monotonic() - self._since > lock.PATIENCE


def train_and_log(run: Run, folder: Path, threads: int) -> tuple[Outcome, str]:
    """Train a run in this process, and write its output to its file; what every engine calls where it trains.

    Args:
        run: The run. Its paths may be relative.
        folder: The folder that they are relative to.
        threads: Threads of PyTorch.

    Returns:
        What became of it, and why.
    """
    import torch

    from r2kd_mm.engine.cli import readable_message

    if not folder.is_dir():
        return Outcome.FAILED, f'{os.uname().nodename} has no folder {str(folder)!r}; all machines must share it'
    os.chdir(folder)
    torch.set_num_threads(threads)
    with _output_to(run.output_file):
        try:
            train(run)
        except lock.Held as error:
            return Outcome.HELD, str(error)
        except Exception as error:
            traceback.print_exc()
            return Outcome.FAILED, readable_message(error)
    return Outcome.FINISHED, ''


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send standard output and error to the end of a file, also those of compiled code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        _flush()
        for number in kept:
            os.dup2(target, number)
        yield
    finally:
        _flush()
        for number, descriptor in kept.items():
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(target)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
