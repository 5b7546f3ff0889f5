"""Train or resume one run of a comparison with MMEngine's Runner."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import mkdir_or_exist
from mmengine.visualization import LocalVisBackend
from mmpretrain.evaluation import Accuracy

from r2kd_mm.engine import AtomicLocalBackend, set_resume
from r2kd_mm.engine.classes import check_same_classes, classes_of
from r2kd_mm.engine.resume import AUTO, POINTER
from r2kd_mm.runs.launch import train_by_processes
from r2kd_mm.runs.lock import hold
from r2kd_mm.runs.logs import METRIC, read_accuracies
from r2kd_mm.runs.plan import Run, load_config
from r2kd_mm.runs.result import Result, load_result, save_result
from r2kd_mm.runs.state import DIGEST_FILE, State, has_test_set, read_digest, settings_digest, state_of

_ELAPSED = 'comparison_seconds'  # in the message hub, which checkpoints hold: wall time and that of the processors
_SHARE_FILE = 'share.txt'  # how much of the run is trained


def train(run: Run, report_progress: Callable[[float], None] | None = None) -> Result:
    """Train or resume ``run`` with MMEngine's Runner, and save its result.

    A finished run is not trained again; its result is returned.

    If the folder holds a run of another config or teacher, that old run is moved aside. It is deleted once the new run
    is finished. It is moved back if it is requested before, or if the new run fails without a checkpoint.

    Args:
        run: The run. If it was moved aside, its folder is moved back first.
        report_progress: Function that gets the share of finished training after each epoch, in ``(0, 1]``. The share
            is also written to a file, see :func:`read_share`.

    Raises:
        Held: Another process trains this run. Two processes would overwrite each other's checkpoints.
    """
    refusal = f'{run} is being trained in {str(run.folder)!r} by {{owner}}; wait for it, or give another folder'
    with hold(run.lock_file, refusal):
        return _train_in_folder(run, report_progress)


def read_share(run: Run) -> float:
    """Read how much of the run was trained when its last epoch ended."""
    path = run.folder / _SHARE_FILE
    try:
        return float(path.read_text())
    except (FileNotFoundError, ValueError):  # not begun, or being written
        return 0.0


def _train_in_folder(run: Run, report_progress: Callable[[float], None] | None) -> Result:
    cfg = load_config(run)
    state = state_of(run, cfg)
    if state is State.SET_ASIDE:
        _put_back(run)
        state = state_of(run, cfg)
    if state is State.FINISHED:  # a try before this one, or another driver, has finished it
        return load_result(run)
    if state is not State.INTERRUPTED:
        _set_aside(run)
        AtomicLocalBackend().put_text(settings_digest(cfg), run.folder / DIGEST_FILE)
    try:
        train_here = _train if run.processes == 1 else _train_by_processes
        result = train_here(run, cfg, _ProgressHook(run.folder / _SHARE_FILE, report_progress))
    except Exception:
        if run.set_aside.is_dir() and not (run.folder / POINTER).is_file():
            _put_back(run)
        raise
    shutil.rmtree(run.set_aside, ignore_errors=True)
    save_result(run, result)
    return result


def _set_aside(run: Run) -> None:
    """Empty the folder. A run that was set aside before stays, since no later run was finished."""
    if read_digest(run.folder) is not None and not run.set_aside.exists():
        run.folder.rename(run.set_aside)
    shutil.rmtree(run.folder, ignore_errors=True)
    mkdir_or_exist(run.folder)


def _put_back(run: Run) -> None:
    shutil.rmtree(run.folder, ignore_errors=True)
    run.set_aside.rename(run.folder)


def _train(run: Run, cfg: Config, progress: _ProgressHook) -> Result:
    set_resume(cfg, AUTO)
    stopwatch = _StopwatchHook()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(stopwatch)
    runner.register_hook(progress)
    _check_measured(runner)
    if has_test_set(cfg):
        # built now, so that missing test data are not an error after the training
        check_same_classes(
            classes_of(runner.train_dataloader.dataset),
            classes_of(runner.test_dataloader.dataset),
            owners='train_dataloader and test_dataloader',
        )
    runner.train()
    if runner.epoch not in read_accuracies(run.folder)[0]:  # killed between the last checkpoint and its evaluation
        runner.val()
    seconds, cpu_seconds = (round(value, 1) for value in stopwatch.elapsed())

    accuracy, teachers = read_accuracies(run.folder)
    return Result(list(accuracy), list(accuracy.values()), teachers, seconds, cpu_seconds, _test(runner))


def _train_by_processes(run: Run, cfg: Config, progress: _ProgressHook) -> Result:
    if has_test_set(cfg):
        raise ValueError('a run of several processes is measured on its validation set; take the test set out')
    began = time.monotonic()
    train_by_processes(cfg, run.processes, progress.say)
    accuracy, teachers = read_accuracies(run.folder)
    return Result(list(accuracy), list(accuracy.values()), teachers, round(time.monotonic() - began, 1))


def _check_measured(runner: Runner) -> None:
    """Refuse a run whose accuracy would not be known when it is trained."""
    loops = [runner.val_loop, *([runner.test_loop] if has_test_set(runner.cfg) else [])]
    for name, loop in zip(('val_evaluator', 'test_evaluator'), loops):
        metrics = [metric for metric in loop.evaluator.metrics if isinstance(metric, Accuracy)]
        if not any(f'{metric.prefix}/top{k}' == METRIC for metric in metrics for k in metric.topk):
            raise ValueError(
                f"{name} measures no {METRIC!r}: a config that is to be compared needs mmpretrain's Accuracy there, "
                'with 1 in its topk'
            )
    if not all(getattr(hook, 'evaluate_on_ema', True) for hook in runner.hooks):
        raise ValueError(
            'a config that is to be compared cannot have an EMAHook with evaluate_on_ema=False: the accuracy would be '
            'that of the raw weights, and a checkpoint ships the averaged ones; leave the hook out, or the argument'
        )
    if not any(isinstance(backend, LocalVisBackend) for backend in runner.visualizer._vis_backends.values()):
        raise ValueError(
            'a config that is to be compared needs a LocalVisBackend in the vis_backends of its visualizer'
        )


class _StopwatchHook(Hook):
    """Measure the time since the start; after a resume, add the time that the checkpoint took."""

    def __init__(self) -> None:
        self._started, self._cpu_started = time.monotonic(), time.process_time()

    def elapsed(self) -> tuple[float, float]:
        """Return wall time and processor time, in seconds."""
        return time.monotonic() - self._started, time.process_time() - self._cpu_started

    def before_train(self, runner: Runner) -> None:
        if runner.iter:  # resumed
            seconds, cpu_seconds = runner.message_hub.runtime_info.get(_ELAPSED, (0.0, 0.0))
            self._started -= seconds
            self._cpu_started -= cpu_seconds

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        runner.message_hub.update_info(_ELAPSED, self.elapsed())  # a checkpoint may follow any iteration


class _ProgressHook(Hook):
    """Say after each epoch how much is done: in a file for a driver on any machine, and to a function."""

    def __init__(self, path: Path, report: Callable[[float], None] | None) -> None:
        self.path, self.report = path, report

    def after_train_epoch(self, runner: Runner) -> None:
        self.say((runner.epoch + 1) / runner.max_epochs)

    def say(self, share: float) -> None:
        """Say that a share of the training is done."""
        with contextlib.suppress(OSError):  # of a full disk the checkpoint tells, and what to do
            self.path.write_text(str(share))
        if self.report is not None:
            self.report(share)


def _test(runner: Runner) -> dict[str, float]:
    """Measure the accuracy on the test set: of the last epoch, and of the epoch that was best on the validation set."""
    if not has_test_set(runner.cfg):
        return {}
    found = dict(last=runner.test()[METRIC])
    best = runner.message_hub.runtime_info.get('best_ckpt')
    if best is not None:
        runner._resume = False  # of a run that was resumed: only the weights are wanted now
        runner.load_checkpoint(best)
        found['best'] = runner.test()[METRIC]
    return found
