"""Train one run by several processes, as ``tools/dist_train.sh`` does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config

import r2kd_mm
from r2kd_mm.runs.logs import read_accuracies

PACKAGE = Path(r2kd_mm.__file__).parent
TRAIN = PACKAGE / '.mim' / 'tools' / 'train.py'
POLL_SECONDS = 1.0


def train_by_processes(cfg: Config, processes: int, report_progress: Callable[[float], None]) -> None:
    """Train in ``cfg.work_dir`` from where it stopped, by processes that torchrun starts.

    Args:
        cfg: Config of the run; its batch size is that of one process.
        processes: Number of processes: one a GPU, or on the CPU where there is none.
        report_progress: Called with the share of the epochs that are done.

    Raises:
        RuntimeError: A process failed; what it printed says why.
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
    started = subprocess.Popen(command, env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': str(threads)})
    with started, _handed_on(signal.SIGTERM, started):
        while started.poll() is None:
            time.sleep(POLL_SECONDS)
            with contextlib.suppress(ValueError):  # nothing is measured yet
                report_progress(len(read_accuracies(folder)[0]) / cfg.train_cfg.max_epochs)
    if started.returncode:
        raise RuntimeError(f'one of {processes} processes failed, and torchrun ended with {started.returncode}')


@contextlib.contextmanager
def _handed_on(number: int, process: subprocess.Popen) -> Iterator[None]:
    """Hand a signal on, so that the processes save a checkpoint and none is left behind."""
    before = signal.signal(number, lambda *_: process.send_signal(number))
    try:
        yield
    finally:
        signal.signal(number, before)
