"""Provide hooks that kill or inspect a run from inside the process that trains it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner


class KillOnceHook(Hook):
    """Kill the process after the first checkpoint; the run that resumes is left alone."""

    priority = 'LOWEST'  # after the checkpoint

    def after_train_epoch(self, runner: Runner) -> None:
        if runner.epoch == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class KillAlwaysHook(Hook):
    """Kill the process before the first checkpoint."""

    def before_train_epoch(self, runner: Runner) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class DevicesHook(Hook):
    """Write down which GPUs the process may use."""

    def before_run(self, runner: Runner) -> None:
        Path(runner.work_dir, 'devices.txt').write_text(os.environ.get('CUDA_VISIBLE_DEVICES', 'any'))
