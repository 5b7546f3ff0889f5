"""Train one run in several processes (data-parallel), as ``tools/dist_train.sh`` does."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from mmengine.config import Config

import r2kd_mm
from r2kd_mm.runs.logs import read_accuracies

PACKAGE = Path(r2kd_mm.__file__).parent
TRAIN = PACKAGE / '.mim' / 'tools' / 'train.py'
POLL_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def train_by_processes(cfg: Config, processes: int, report_progress: Callable[[float], None]) -> None:
    """Start or resume the training in ``cfg.work_dir`` in several processes, by torchrun.

    Args:
        cfg: Config of the run; its batch size is per process.
        processes: Number of processes, one per GPU; without a GPU they use the CPU.
        report_progress: Function that regularly gets the share of finished epochs, in ``[0, 1]``.

    Raises:
        RuntimeError: A process failed; its own output shows the reason.
        SystemExit: This process got SIGTERM and passed it on; the processes saved a checkpoint.
    """
    folder = Path(cfg.work_dir)
    config = folder.with_suffix('.py')  # next to the folder, as what the run prints
    cfg.dump(config)
    command = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        f'--nproc_per_node={processes}',
        str(TRAIN),
        str(config),
        '--launcher=pytorch',
        '--resume',
    ]
    threads = max(1, torch.get_num_threads() // processes)
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get('PYTHONPATH', '')])
    started = start(command, {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': str(threads)})
    with started, _handed_on(signal.SIGTERM, started) as received:
        while started.poll() is None:
            time.sleep(POLL_SECONDS)
            with contextlib.suppress(ValueError):  # nothing is measured yet
                report_progress(len(read_accuracies(folder)[0]) / cfg.train_cfg.max_epochs)
    if received:
        raise SystemExit(128 + signal.SIGTERM)
    if started.returncode:
        raise RuntimeError(f'one of {processes} processes failed, and torchrun ended with {started.returncode}')


def start(command: list[str], env: Mapping[str, str]) -> subprocess.Popen:
    """Start a process that trains for this one.

    It inherits the lock of the folder, so nobody else trains there while it lives. Where this process is killed, it
    gets SIGTERM (on Linux).
    """
    libc = ctypes.CDLL(None) if sys.platform == 'linux' else None

    def end_with_this_process() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(command, env=env, close_fds=False, preexec_fn=end_with_this_process)


@contextlib.contextmanager
def _handed_on(number: int, process: subprocess.Popen) -> Iterator[list[int]]:
    """Hand a signal on, so that the processes save a checkpoint and none is left behind; yield what came."""
    received: list[int] = []

    def hand_on(number: int, _: object) -> None:
        received.append(number)
        process.send_signal(number)

    before = signal.signal(number, hand_on)
    try:
        yield received
    finally:
        signal.signal(number, before)
