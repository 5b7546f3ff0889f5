"""Save checkpoints so that a kill, a full disk or a preemption never leaves a run without a valid checkpoint."""

from __future__ import annotations

import pickle
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.engine.cli import RunStopped
from r2kd_mm.engine.fileio import AtomicLocalBackend, remove_leftovers
from r2kd_mm.engine.preemption import SigtermWatch
from r2kd_mm.engine.resume import POINTER, PREEMPTED
from r2kd_mm.engine.train_loop import ResumableTrainLoop
from r2kd_mm.engine.worker_signals import init_worker
from r2kd_mm.plain import plain
from r2kd_mm.registry import HOOKS

PREEMPTED_STATUS = 128 + signal.SIGTERM  # the exit status of a process that SIGTERM ended
SUPERSEDED = 'superseded_ckpts'  # in the message hub: files to delete once this checkpoint is safe


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` for runs that may be killed at any moment.

    - Order: it writes the new checkpoint, points ``last_checkpoint`` to it, and then deletes the old one. The best
      checkpoint is replaced in the same order. MMEngine deletes first. The new checkpoint lists the files to delete,
      so a resumed run can delete them. So ``max_keep_ckpts=1`` is safe, and no old file remains.
    - It reads the first checkpoint back after saving. If the file cannot be read, the run stops at once.
    - A full or broken disk stops the run on every rank with one error. The last checkpoint stays valid.
    - A run that ``EarlyStoppingHook`` stops gets a checkpoint of its last epoch, unless ``save_last=False``.
    - With gradient accumulation, a checkpoint by iteration (``by_epoch=False``) waits for the next update. Its name
      has the iteration at which it is written.
    - Clusters send SIGTERM before they kill a job. The hook then saves ``preempted_iter_<n>.pth`` after the running
      iteration, or after the next update, and ends the process with status 143. The next regular checkpoint replaces
      this file. A running validation is aborted, and repeated on resume.

    SLURM sends SIGTERM ``KillWait`` seconds (30 by default) before SIGKILL, or earlier with ``--signal=TERM@120``.
    torchrun passes SIGTERM on to its workers and kills them 30 s later. One iteration and the save must fit into
    this time. With several processes, ``preemption_check_interval`` iterations and the save must fit.

    Args:
        backend_args: File backend; ``None`` means ``dict(backend='atomic')``, for local folders.
        preemption_check_interval: Number of iterations, at least 1, after which several processes exchange whether any
            of them got SIGTERM. A single process checks after each iteration.
        **kwargs: Arguments of MMEngine's ``CheckpointHook``.

    Raises:
        TypeError: An argument is unknown.
        ValueError: ``preemption_check_interval`` is below 1. Or an epoch ends between two updates of gradient
            accumulation, so that its checkpoint would lack gradients. Or the ranks resume from different iterations.
        RunStopped: A checkpoint cannot be written, or the first one cannot be read back.

    Example:
        >>> default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook', max_keep_ckpts=1))  # in a config
        >>> HOOKS.build(default_hooks['checkpoint']).backend_args
        {'backend': 'atomic'}
    """

    def __init__(self, *, backend_args: dict | None = None, preemption_check_interval: int = 10, **kwargs: Any) -> None:
        super().__init__(backend_args=backend_args or dict(backend='atomic'), **kwargs)
        if self.args:  # MMEngine would fail on them at the first save
            raise TypeError(f'SafeCheckpointHook takes the arguments of CheckpointHook, got {sorted(self.args)}')
        if preemption_check_interval < 1:
            raise ValueError(f'preemption_check_interval must be at least 1, got {preemption_check_interval}')
        self._sigterm = SigtermWatch(preemption_check_interval)
        self._due = False  # a checkpoint by iteration, until the gradients in accumulation are used up
        self._saved_at: tuple[int, int] | None = None  # epoch and iteration of the newest checkpoint
        self._replaced_best: dict[str, str] = {}
        self._is_readable = False  # a checkpoint of this process was read back
        self._knows_stop = False  # the last checkpoint says that the run was stopped early

    # -------------------------------------------------------------------------------------------------- start and end
    def before_run(self, runner: Runner) -> None:
        """Let the data workers survive a SIGTERM to the whole job, because the running iteration still needs them."""
        for loop in (runner._train_loop, runner._val_loop):  # the public properties would build what is not used
            if isinstance(loop, BaseLoop):
                worker_init_fn = loop.dataloader.worker_init_fn
                if getattr(worker_init_fn, 'func', None) is not init_worker:  # a runner may run twice
                    loop.dataloader.worker_init_fn = partial(init_worker, worker_init_fn)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let MMEngine compare equal types: a checkpoint holds the metainfo of the data set in plain types."""
        if not runner._resume:
            return
        meta, now = checkpoint.get('meta') or {}, getattr(runner.train_dataloader.dataset, 'metainfo', None)
        if 'dataset_meta' in meta and pickle.dumps(plain(now)) == pickle.dumps(meta['dataset_meta']):
            meta['dataset_meta'] = now

    def before_train(self, runner: Runner) -> None:
        """Clean up after a killed run, and watch for SIGTERM."""
        super().before_train(runner)
        if not self.save_optimizer:
            runner.logger.warning('No run can resume from the checkpoints of this one: save_optimizer=False.')
        _check_ranks(runner)
        if (self.by_epoch and self.interval > 0) or self.save_best:
            _check_accumulation(runner)
        self._saved_at = (runner.epoch, runner.iter) if runner.iter else None
        self._knows_stop = getattr(runner.train_loop, 'stop_training', False)
        info = runner.message_hub.runtime_info
        last = self._path(info['last_ckpt']) if info.get('last_ckpt') else None
        self.last_ckpt = last if last is not None and self.file_backend.isfile(last) else None
        for key, path in self._best_paths().items():  # the folder may have been moved
            self._set_best_path(key, self._path(path))
        if is_main_process():
            remove_leftovers(runner.work_dir)
            if Path(self.out_dir).is_dir():
                remove_leftovers(self.out_dir)
        self._remove(info.get(SUPERSEDED, []))
        self._sigterm.start()

    def after_train(self, runner: Runner) -> None:
        """Publish the checkpoint as MMEngine does, and restore the handler of SIGTERM."""
        self._save_if_stopped_early(runner)
        super().after_train(runner)
        self._sigterm.stop()

    def after_failed_train(self, runner: Runner) -> None:
        """Restore the handler of SIGTERM when an error ends the training in a ``ResumableTrainLoop``."""
        self._sigterm.stop()

    # --------------------------------------------------------------------------------------------------------- saving
    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write the checkpoint, point to it, then delete the old one, in this order."""
        superseded = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                superseded.append(self.filename_tmpl.format(self.keep_ckpt_ids[0]))
            self.keep_ckpt_ids.append(step)  # a deque: the first one drops out
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        superseded += [path for key, path in self._replaced_best.items() if self._best_paths().get(key, path) != path]
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self._path(name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.message_hub.update_info(SUPERSEDED, [Path(path).name for path in superseded])
        self._write(runner, name, meta)
        self._remove([*superseded, *_preempted(self.file_backend, self.out_dir)])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Write the best checkpoint, record it in the last one, then delete the earlier best one."""
        self._replaced_best = self._best_paths()
        for key in self._replaced_best:
            self._set_best_path(key, None)  # what MMEngine does not know of it cannot delete
        with self._errors_stop_the_run(runner, 'the best checkpoint'):
            super()._save_best_checkpoint(runner, metrics)
        current = self._best_paths()
        for key, path in self._replaced_best.items():
            if key not in current:
                self._set_best_path(key, path)
            elif (
                self.last_ckpt is None and current[key] != path
            ):  # no checkpoint knows of it: the run would start from scratch
                self._remove([path])
        self._replaced_best = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best checkpoint, and also the last one if this validation ends the run."""
        super().after_val_epoch(runner, metrics)
        self._save_if_stopped_early(runner)

    def _save_if_stopped_early(self, runner: Runner) -> None:
        """Save the last epoch of a run that stops early, over its earlier checkpoint if there is one."""
        if self._knows_stop or not getattr(runner._train_loop, 'stop_training', False):
            return
        self._knows_stop = True
        if self.save_last or (self._saved_at is not None and self._saved_at[1] == runner.iter):
            step = runner.epoch if self.by_epoch else runner.iter
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))

    def _best_paths(self) -> dict[str, str]:
        """Return the paths of the best checkpoints so far by metric; ``''`` stands for the only metric."""
        paths = getattr(self, 'best_ckpt_path_dict', None)
        if paths is None:
            paths = {'': getattr(self, 'best_ckpt_path', None)}
        return {key: path for key, path in paths.items() if path}

    def _set_best_path(self, key: str, path: str | None) -> None:
        if key:
            self.best_ckpt_path_dict[key] = path
        else:
            self.best_ckpt_path = path

    def _write(self, runner: Runner, name: str, meta: dict) -> None:
        """Save the whole state as ``name``, and point ``last_checkpoint`` to it."""
        with self._errors_stop_the_run(runner, f'checkpoint {self._path(name)!r}'):
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer or name.startswith(PREEMPTED),  # which is there to be resumed
                save_param_scheduler=self.save_param_scheduler,
                meta=dict(meta),
                backend_args=self.backend_args,
            )
            if is_main_process():
                self._read_back(name)
                AtomicLocalBackend().put_text(self._path(name), Path(runner.work_dir, POINTER))
        self._saved_at = (meta['epoch'], meta['iter'])

    def _read_back(self, name: str) -> None:
        """Read back the first checkpoint of this process; later ones hold the same kinds of objects."""
        if self._is_readable or not Path(self._path(name)).is_file():  # not on this machine
            return
        try:
            load_checkpoint_file(self._path(name))
        except ValueError as error:
            Path(self._path(name)).unlink()
            raise OSError(f'it was read back, and {error}') from error
        self._is_readable = True

    @contextmanager
    def _errors_stop_the_run(self, runner: Runner, what: str) -> Iterator[None]:
        """End every rank with the error of rank 0, which is the only rank that writes."""
        message = None
        try:
            yield
        except TypeError as error:
            message = f'{what} cannot be written: {error}'
        except OSError as error:
            pointer = Path(runner.work_dir, POINTER)
            before = (
                f'{pointer.read_text()} is still good: the same command with --resume continues from there'
                if self._saved_at is not None and pointer.is_file()
                else 'none was written before, so the same command starts again'
            )
            message = (
                f'{what} cannot be written after iteration {runner.iter}: {error.strerror or error}. Nothing of it is '
                f'left on the disk, and {before}; make room first, or repair the disk'
            )
        shared = [message]
        broadcast_object_list(shared)
        if shared[0] is not None:
            self._sigterm.stop()
            raise RunStopped(shared[0])

    def _path(self, name: str) -> str:
        """Return the path of a checkpoint in the folder of this run; only the name of ``path`` counts."""
        return self.file_backend.join_path(self.out_dir, Path(name).name)

    def _remove(self, names: Iterable[str]) -> None:
        """Delete checkpoints in this run's folder only: the names come from a file, which may name anything."""
        for path in {self._path(name) for name in names if str(name).endswith('.pth')} if is_main_process() else ():
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)

    # ----------------------------------------------------------------------------------------------------- preemption
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Save by iteration if a checkpoint is due and the gradients are used up; stop if SIGTERM came."""
        if not self.by_epoch:
            self._due = (
                self._due
                or self.every_n_train_iters(runner, self.interval, self.save_begin)
                or (self.save_last and self.is_last_train_iter(runner))
            )
            if self._due and _has_updated(runner):
                self._due = False
                self._save_checkpoint(runner)
        if self._sigterm.asks_to_stop(runner.iter + 1) and _has_updated(runner):
            self._save_and_exit(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
        """Stop in the middle of a validation, but not while the model holds the weights of a moving average."""
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            return
        if self._sigterm.asks_to_stop(batch_idx + 1) and _has_updated(runner):
            self._save_and_exit(runner, epoch=runner.epoch, iteration=runner.iter)

    def _save_and_exit(self, runner: Runner, epoch: int, iteration: int) -> None:
        if self._saved_at != (epoch, iteration):
            self._write(runner, f'{PREEMPTED}{iteration}.pth', dict(epoch=epoch, iter=iteration))
        self._sigterm.stop()
        runner.logger.warning(
            f'Stopped by SIGTERM after iteration {iteration}, which is saved in {runner.work_dir}; the same command '
            'with --resume continues from there.'
        )
        sys.exit(PREEMPTED_STATUS)


def _preempted(backend: Any, folder: str) -> list[str]:
    """List the checkpoints that runs saved when they were preempted; on other ranks than 0, none."""
    if not is_main_process():
        return []
    names = backend.list_dir_or_file(folder, list_dir=False, suffix='.pth')
    return [name for name in names if name.startswith(PREEMPTED)]


def _check_ranks(runner: Runner) -> None:
    iterations = all_gather_object(runner.iter)
    if len(set(iterations)) > 1:
        raise ValueError(
            f'the ranks resume from different iterations: {iterations}; the work dir must be on a file system that '
            'all nodes share'
        )


def _check_accumulation(runner: Runner) -> None:
    """Refuse to save at the end of an epoch that is not the end of a window of gradient accumulation."""
    counts = max(wrapper._accumulative_counts for wrapper in _wrappers(runner))
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    length = len(runner.train_dataloader)
    if length % counts and not isinstance(runner.train_loop, ResumableTrainLoop):
        raise ValueError(
            f'an epoch of {length} iterations ends between two updates of accumulative_counts={counts}, and a '
            "checkpoint would lack the gradients so far; take train_cfg.type='ResumableTrainLoop', in which an "
            'update ends each epoch'
        )


def _wrappers(runner: Runner) -> list:
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _has_updated(runner: Runner) -> bool:
    """Return whether the last iteration ended in an update, so that no gradients wait for the next one."""
    return all(wrapper.should_update() for wrapper in _wrappers(runner))
