"""Checkpoints that a kill, a full disk or a preempted job leaves whole and in step with what they say of each other."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from r2kd_mm.checkpoint import load_checkpoint_file, plain
from r2kd_mm.engine.cli import RunStopped
from r2kd_mm.engine.fileio import AtomicLocalBackend, remove_leftovers
from r2kd_mm.engine.resume import POINTER, PREEMPTED
from r2kd_mm.engine.train_loop import ResumableTrainLoop
from r2kd_mm.registry import HOOKS

PREEMPTED_STATUS = 128 + signal.SIGTERM  # what a shell reports of a process that SIGTERM ended
SUPERSEDED = 'superseded_ckpts'  # in the message hub: what to delete once the checkpoint that says so is safe


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with its arguments, for runs that die at any moment.

    - Order: the new checkpoint is written whole, then ``last_checkpoint`` points to it, then the superseded one is
      deleted; likewise the best one. MMEngine deletes first. What was to be deleted is noted in the new checkpoint, so
      that a resumed run makes up for it: ``max_keep_ckpts=1`` is safe, and nothing is left over.
    - The first checkpoint is read back when it is written: one that cannot be read stops the run at once.
    - A full or broken disk stops the run, on every rank, with one error; the last checkpoint stays good.
    - A run that ``EarlyStoppingHook`` stops leaves a checkpoint of its last epoch, unless ``save_last=False``.
    - A checkpoint by iteration (``by_epoch=False``) that is due between two updates of gradient accumulation waits for
      the second, and is named by the iteration at which it is written.
    - SIGTERM, by which clusters announce that a job will be killed, saves ``preempted_iter_<n>.pth`` after the running
      iteration, or likewise the next update, and ends the process with status 143. The next regular checkpoint
      replaces it. A validation is left at once and made up for on resume.

    SLURM sends SIGTERM ``KillWait`` seconds (30 by default) before SIGKILL, and earlier with ``--signal=TERM@120``;
    torchrun passes SIGTERM on to its workers, and kills them 30 s later. An iteration, or ``preemption_check_interval``
    of them on several processes, and the save have to fit in that.

    Args:
        backend_args: As for MMEngine's; None means ``dict(backend='atomic')``, for local folders.
        preemption_check_interval: On several processes, agree every so many iterations whether any of them got SIGTERM;
            >= 1. One process looks after each iteration.
        **kwargs: Those of MMEngine's ``CheckpointHook``.

    Raises:
        TypeError: An argument is unknown.
        ValueError: ``preemption_check_interval`` is below 1; or an epoch ends between two updates of gradient
            accumulation, so that its checkpoint would lack gradients; or the ranks do not resume from one iteration.
        RunStopped: A checkpoint cannot be written, or the first one cannot be read back.
    """

    def __init__(self, *, backend_args: dict | None = None, preemption_check_interval: int = 10, **kwargs: Any) -> None:
        super().__init__(backend_args=backend_args or dict(backend='atomic'), **kwargs)
        if self.args:  # MMEngine would fail on them at the first save
            raise TypeError(f'SafeCheckpointHook takes the arguments of CheckpointHook, got {sorted(self.args)}')
        if preemption_check_interval < 1:
            raise ValueError(f'preemption_check_interval must be at least 1, got {preemption_check_interval}')
        self.preemption_check_interval = preemption_check_interval
        self._sigterm = False  # this process got the signal
        self._stopping = False  # all ranks know
        self._previous_handler: Any = None
        self._due = False  # a checkpoint by iteration, until the gradients in accumulation are used up
        self._saved_at: tuple[int, int] | None = None  # epoch and iteration of the newest checkpoint
        self._replaced_best: dict[str, str] = {}
        self._is_readable = False  # a checkpoint of this process was read back
        self._knows_stop = False  # the last checkpoint says that the run was stopped early

    # -------------------------------------------------------------------------------------------------- start and end
    def before_run(self, runner: Runner) -> None:
        """Let the data workers outlive a SIGTERM to the whole job: the running iteration still needs them."""
        for loop in (runner._train_loop, runner._val_loop):  # the public properties would build what is not used
            if isinstance(loop, BaseLoop):
                worker_init_fn = loop.dataloader.worker_init_fn
                if getattr(worker_init_fn, 'func', None) is not _init_worker:  # a runner may run twice
                    loop.dataloader.worker_init_fn = partial(_init_worker, worker_init_fn)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let MMEngine compare like with like: a checkpoint holds the metainfo of the data set plainly."""
        if not runner._resume:
            return
        meta, now = checkpoint.get('meta') or {}, getattr(runner.train_dataloader.dataset, 'metainfo', None)
        if 'dataset_meta' in meta and pickle.dumps(plain(now)) == pickle.dumps(meta['dataset_meta']):
            meta['dataset_meta'] = now

    def before_train(self, runner: Runner) -> None:
        """Finish what a killed run left undone, and watch for SIGTERM."""
        super().before_train(runner)
        if not self.save_optimizer:
            runner.logger.warning('No run can resume from the checkpoints of this one: save_optimizer=False.')
        self._check_ranks(runner)
        self._check_accumulation(runner)
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
        self._sigterm = self._stopping = False
        if threading.current_thread() is threading.main_thread():  # Python lets no other one handle signals
            self._previous_handler = signal.signal(signal.SIGTERM, self._on_sigterm) or signal.SIG_DFL

    def after_train(self, runner: Runner) -> None:
        """Publish as MMEngine does, and leave SIGTERM as it was."""
        self._save_if_stopped_early(runner)
        super().after_train(runner)
        self._restore_handler()

    def _restore_handler(self) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    def _check_ranks(self, runner: Runner) -> None:
        iterations = all_gather_object(runner.iter)
        if len(set(iterations)) > 1:
            raise ValueError(
                f'the ranks resume from different iterations: {iterations}; the work dir must be on a file system that '
                'all nodes share'
            )

    def _check_accumulation(self, runner: Runner) -> None:
        """Refuse a checkpoint at the end of an epoch that is not the end of a window of gradient accumulation."""
        counts = max(wrapper._accumulative_counts for wrapper in _wrappers(runner))
        saves_then = (self.by_epoch and self.interval > 0) or self.save_best
        if not saves_then or not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        length = len(runner.train_dataloader)
        if length % counts and not isinstance(runner.train_loop, ResumableTrainLoop):
            raise ValueError(
                f'an epoch of {length} iterations ends between two updates of accumulative_counts={counts}, and a '
                "checkpoint would lack the gradients so far; take train_cfg.type='ResumableTrainLoop', in which an "
                'update ends each epoch'
            )

    # --------------------------------------------------------------------------------------------------------- saving
    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write, point to it, delete: in this order."""
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
        self._remove([*superseded, *self._preempted()])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Let MMEngine write the best one, and record it in the last one, before the best one so far is deleted."""
        self._replaced_best = self._best_paths()
        for key in self._replaced_best:
            self._set_best_path(key, None)  # what MMEngine does not know of it cannot delete
        with self._errors_stop_the_run(runner, 'the best checkpoint'):
            super()._save_best_checkpoint(runner, metrics)
        current = self._best_paths()
        for key, path in self._replaced_best.items():
            if key not in current:
                self._set_best_path(key, path)
            elif self.last_ckpt is None and current[key] != path:  # no checkpoint knows of it: the run would start anew
                self._remove([path])
        self._replaced_best = {}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best one, and the last one of a run that this validation ends."""
        super().after_val_epoch(runner, metrics)
        self._save_if_stopped_early(runner)

    def _save_if_stopped_early(self, runner: Runner) -> None:
        """Save the last epoch once it is known to be that, over the checkpoint that it may have from before."""
        if self._knows_stop or not getattr(runner._train_loop, 'stop_training', False):
            return
        self._knows_stop = True
        if self.save_last or (self._saved_at is not None and self._saved_at[1] == runner.iter):
            step = runner.epoch if self.by_epoch else runner.iter
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))

    def _best_paths(self) -> dict[str, str]:
        """Paths of the best checkpoints so far, by metric; ``''`` stands for the only one."""
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
        """Save the whole state under ``name``, and point ``last_checkpoint`` to it."""
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
        """Read the first checkpoint that this process wrote; those after it hold the same kinds of things."""
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
        """End every rank with the one error that rank 0, which alone writes, has met."""
        message = None
        try:
            yield
        except TypeError as error:
            message = f'{what} cannot be written: {error}'
        except OSError as error:
            pointer = Path(runner.work_dir, POINTER)
            before = (
                f'{pointer.read_text()} is still good: the same command with --resume goes on from there'
                if self._saved_at is not None and pointer.is_file()
                else 'none was written before, so the same command starts again'
            )
            message = (
                f'{what} cannot be written after iteration {runner.iter}: {error.strerror or error}. Nothing of it is '
                f'left on the disk, and {before}; make room first, or mend the disk'
            )
        shared = [message]
        broadcast_object_list(shared)
        if shared[0] is not None:
            self._restore_handler()
            raise RunStopped(shared[0])

    def _path(self, name: str) -> str:
        """Path of a checkpoint in the folder of this run; of a path in another one, only its name counts."""
        return self.file_backend.join_path(self.out_dir, Path(name).name)

    def _preempted(self) -> list[str]:
        if not is_main_process():
            return []
        names = self.file_backend.list_dir_or_file(self.out_dir, list_dir=False, suffix='.pth')
        return [name for name in names if name.startswith(PREEMPTED)]

    def _remove(self, names: Iterable[str]) -> None:
        """Delete checkpoints of this run's folder: the names come out of a file, which might name anything."""
        for path in {self._path(name) for name in names if str(name).endswith('.pth')} if is_main_process() else ():
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)

    # ----------------------------------------------------------------------------------------------------- preemption
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Save by iteration if that is due, as soon as the gradients are used up, and stop if that was asked for."""
        if not self.by_epoch:
            self._due = (
                self._due
                or self.every_n_train_iters(runner, self.interval, self.save_begin)
                or (self.save_last and self.is_last_train_iter(runner))
            )
            if self._due and _has_updated(runner):
                self._due = False
                self._save_checkpoint(runner)
        if self._is_to_stop(runner, runner.iter + 1):
            self._save_and_exit(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
        """Stop in the middle of a validation; not where the model holds the weights of a moving average just then."""
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            return
        if self._is_to_stop(runner, batch_idx + 1):
            self._save_and_exit(runner, epoch=runner.epoch, iteration=runner.iter)

    def _on_sigterm(self, *_: object) -> None:
        self._sigterm = True

    def _is_to_stop(self, runner: Runner, step: int) -> bool:
        """Whether a rank got SIGTERM, on which all ranks agree, and no gradients wait for their update."""
        if runner.world_size == 1:
            self._stopping = self._sigterm
        elif not self._stopping and step % self.preemption_check_interval == 0:
            asked = torch.tensor(int(self._sigterm))
            all_reduce(asked, 'max')
            self._stopping = bool(asked)
        return self._stopping and _has_updated(runner)

    def _save_and_exit(self, runner: Runner, epoch: int, iteration: int) -> None:
        if self._saved_at != (epoch, iteration):
            self._write(runner, f'{PREEMPTED}{iteration}.pth', dict(epoch=epoch, iter=iteration))
        self._restore_handler()
        runner.logger.warning(
            f'Stopped by SIGTERM after iteration {iteration}, which is saved in {runner.work_dir}; the same command '
            'with --resume goes on from there.'
        )
        sys.exit(PREEMPTED_STATUS)


def _wrappers(runner: Runner) -> list:
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _has_updated(runner: Runner) -> bool:
    """Whether the last iteration ended in an update, so that no gradients are waiting for one."""
    return all(wrapper.should_update() for wrapper in _wrappers(runner))


def _init_worker(worker_init_fn: Callable[[int], None] | None, worker_id: int) -> None:
    """Make a data worker end by SIGTERM only where its own process sends it.

    A cluster, and torchrun, send it to every process of a job, and a loader whose worker dies raises.
    """
    if hasattr(signal, 'sigwaitinfo'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_when_the_parent_asks, daemon=True).start()
    if worker_init_fn is not None:
        worker_init_fn(worker_id)


def _exit_when_the_parent_asks() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
