"""Train many runs in a few processes, of one thread by default; a crash ends one run only."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from r2kd_mm.runs.plan import Run
from r2kd_mm.runs.training import train

_POLL_SECONDS = 1.0


class Listener(Protocol):
    """A follower of the progress of the runs."""

    def started(self, run: Run) -> None:
        """Note that a worker took the run."""

    def advanced(self, run: Run, share: float) -> None:
        """Note that an epoch ended and ``share`` of the training is done."""

    def finished(self, run: Run) -> None:
        """Note that the run is finished and its result saved."""

    def failed(self, run: Run, reason: str) -> None:
        """Note that the run ended without a result."""

    def tick(self) -> None:
        """Note that about a second has passed."""


def train_all(runs: Sequence[Run], jobs: int, listener: Listener, threads: int = 1) -> None:
    """Train ``runs`` in at most ``jobs`` processes of ``threads`` threads; when one run fails, the others continue.

    Importing the packages takes longer than a small run, so a process takes one run after another. The output of a run
    goes to its ``output_file``, tracebacks included.
    """
    pending = deque(runs)
    busy: dict[Connection, tuple[BaseProcess, Run]] = {}
    try:
        while pending or busy:
            while pending and len(busy) < jobs:
                connection, process = _start_worker(threads)
                busy[connection] = (process, _assign(connection, pending, listener))
            ready = wait(list(busy), _POLL_SECONDS)
            for connection in [one for one in busy if one in ready]:
                process, run = busy[connection]
                try:
                    event, content = connection.recv()
                except (EOFError, ConnectionResetError):
                    process.join()
                    event, content = 'crashed', f'its process ended with status {process.exitcode}'
                if event == 'advanced':
                    listener.advanced(run, content)
                    continue
                if event == 'finished':
                    listener.finished(run)
                else:
                    listener.failed(run, f'{content}; see {run.output_file}')
                if pending and event != 'crashed':
                    busy[connection] = (process, _assign(connection, pending, listener))
                else:
                    del busy[connection]
                    connection.close()  # the worker sees the end of its work
                    process.join()
            listener.tick()
    finally:
        for process, _ in busy.values():
            process.terminate()
            process.join()


def _start_worker(threads: int) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context('spawn')  # a fork would take over the locks of threads that it does not have
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, threads), daemon=False)  # a daemon may have no data workers
    with _apart_from_this_process():
        process.start()
    there.close()
    return here, process


@contextlib.contextmanager
def _apart_from_this_process() -> Iterator[None]:
    """Start children that ignore Ctrl-C and print no warnings about the installed packages.

    Ctrl-C reaches the whole group of processes, but this process ends its workers itself. It has also printed the
    warnings already. A child inherits the signal mask and the environment.

    An interrupt of this process waits until the child has started. Otherwise it could leave a child without work.
    """
    variable = 'PYTHONWARNINGS'
    before = os.environ.get(variable)
    os.environ[variable] = 'ignore'
    interrupts: list[int] = []
    # the mask alone would not keep this process from it: the signal may reach another thread
    handler = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    resource_tracker.ensure_running()  # else the first start of a worker starts it, which lifts the mask
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        signal.raise_signal(signal.SIGINT)


def _assign(connection: Connection, pending: deque[Run], listener: Listener) -> Run:
    run = pending.popleft()
    with contextlib.suppress(BrokenPipeError):  # where the worker has died, reading from it will say so
        connection.send(run)
    listener.started(run)
    return run


def _work(connection: Connection, threads: int) -> None:
    """Receive a run, train it, report; the main loop of a worker."""
    import torch

    from r2kd_mm.engine.cli import readable_message

    warnings.simplefilter('default')
    torch.set_num_threads(threads)
    gc.freeze()  # mmengine looks for garbage at each data set, and all that was imported is none
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            run = connection.recv()
        except EOFError:
            return
        _redirect_output(run)
        try:
            train(run, lambda share: connection.send(('advanced', share)))
            event: tuple[str, str | None] = ('finished', None)
        except Exception as error:
            traceback.print_exc()
            event = ('failed', readable_message(error))
        connection.send(event)


def _end_with_parent() -> None:
    """Stop as on SIGTERM, with a checkpoint, once the process that gives out the runs is gone.

    Otherwise two processes would train in one folder when the comparison is started again.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, 'only workers wait for the end of their parent'
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _redirect_output(run: Run) -> None:
    """Send standard output and error, also those of compiled code, to a file of the run."""
    sys.stdout.flush()
    sys.stderr.flush()
    run.output_file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run.output_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)
