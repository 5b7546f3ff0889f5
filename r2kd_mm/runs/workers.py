"""Train many runs in a few local processes, each with its own threads and, if asked, one GPU."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from r2kd_mm.runs.grid import Ended, Outcome, train_and_log
from r2kd_mm.runs.plan import Run

_POLL_SECONDS = 0.2


@dataclass
class _Worker:
    """A process that trains one run after another: importing the packages takes longer than a small run."""

    connection: Connection
    process: BaseProcess
    run: Run | None = None


class LocalEngine:
    """Engine that trains runs in processes on this machine.

    Args:
        jobs: Number of runs at a time, each in its own process.
        threads: Number of threads per process.
        gpus: GPUs as in ``CUDA_VISIBLE_DEVICES``; each run gets one, round-robin. With more jobs than GPUs, several
            runs share a GPU. An empty sequence hides all GPUs. With ``None`` every run sees all GPUs of this process.

    Example:
        >>> print(LocalEngine(jobs=4, gpus=['0', '1']))
        on this machine, 4 at a time on GPU 0, 1
    """

    def __init__(self, jobs: int, threads: int = 1, gpus: Sequence[str] | None = None) -> None:
        self.jobs, self.threads, self.gpus = jobs, threads, None if gpus is None else tuple(gpus)
        self._pending: deque[Run] = deque()
        self._workers: dict[int, _Worker] = {}  # by place, which has a GPU

    @property
    def slots(self) -> int:
        """Number of runs at a time."""
        return self.jobs

    def __str__(self) -> str:
        """Say where runs are trained."""
        if self.gpus:
            names = ', '.join(dict.fromkeys(self._gpu(place) for place in range(self.jobs)))
            return f'on this machine, {self.jobs} at a time on GPU {names}'
        return f'on this machine, {self.jobs} at a time'

    def submit(self, runs: Sequence[Run]) -> None:
        """Queue runs, and start workers for them where places are free."""
        self._pending.extend(runs)
        self._assign()

    def wait(self) -> list[Ended]:
        """Wait a moment, and return the runs that have ended since."""
        places = {worker.connection: place for place, worker in self._workers.items() if worker.run is not None}
        ended = []
        for connection in wait(list(places), _POLL_SECONDS):
            assert isinstance(connection, Connection)
            worker = self._workers[places[connection]]
            assert worker.run is not None
            try:
                outcome, reason = connection.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join()
                outcome, reason = Outcome.DIED, f'its process ended with status {worker.process.exitcode}'
                self._end(places[connection])
            ended.append(Ended(worker.run, outcome, reason))
            worker.run = None
        self._assign()
        return ended

    def stop(self) -> None:
        """End the workers; a run that is being trained stops as on SIGTERM, with a checkpoint."""
        self._pending.clear()
        for worker in self._workers.values():
            if worker.run is not None:
                worker.process.terminate()
        for place in list(self._workers):
            self._end(place)

    def _assign(self) -> None:
        for place in range(self.jobs):
            if not self._pending:
                break
            if place not in self._workers:
                self._workers[place] = self._start(place)
            worker = self._workers[place]
            if worker.run is None:
                worker.run = self._pending.popleft()
                with contextlib.suppress(BrokenPipeError):  # where the worker has died, reading from it will say so
                    worker.connection.send((worker.run, Path.cwd()))

    def _end(self, place: int) -> None:
        worker = self._workers.pop(place)
        worker.connection.close()  # the worker sees the end of its work
        worker.process.join()

    def _gpu(self, place: int) -> str:
        return self.gpus[place % len(self.gpus)] if self.gpus else ''

    def _start(self, place: int) -> _Worker:
        context = multiprocessing.get_context('spawn')  # a fork would take over the locks of threads it does not have
        here, there = context.Pipe()
        # a daemon may have no data workers
        process = context.Process(target=_work, args=(there, self.threads), daemon=False)
        try:
            with _apart_from_this_process({} if self.gpus is None else {'CUDA_VISIBLE_DEVICES': self._gpu(place)}):
                process.start()
        except BaseException:
            here.close()  # the worker, if it has started, sees that there is no work
            raise
        finally:
            there.close()
        return _Worker(here, process)


@contextlib.contextmanager
def _apart_from_this_process(variables: Mapping[str, str]) -> Iterator[None]:
    """Start children that have more variables, ignore Ctrl-C and print no warnings about the installed packages.

    Ctrl-C reaches the whole group of processes, but this process ends its workers itself. It has also printed the
    warnings already. A child inherits the signal mask and the environment.

    An interrupt of this process waits until the child has started. Otherwise it could leave a child without work.
    """
    variables = {'PYTHONWARNINGS': 'ignore', **variables}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    interrupts: list[int] = []
    # the mask alone would not keep this process from it: the signal may reach another thread
    handler = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    resource_tracker.ensure_running()  # else the first start of a worker starts it, which lifts the mask
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        signal.raise_signal(signal.SIGINT)


def _work(connection: Connection, threads: int) -> None:
    """Receive a run, train it, report; the main loop of a worker."""
    warnings.simplefilter('default')
    gc.freeze()  # mmengine looks for garbage at each data set, and all that was imported is none
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            run, folder = connection.recv()
        except EOFError:
            return
        connection.send(train_and_log(run, folder, threads))


def _end_with_parent() -> None:
    """Stop as on SIGTERM, with a checkpoint, once the process that gives out the runs is gone.

    Otherwise two processes would train in one folder when the comparison is started again.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, 'only workers wait for the end of their parent'
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
