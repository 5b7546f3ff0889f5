"""Train by epochs so that an interrupted and resumed run ends with the same weights as an uninterrupted run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import EarlyStoppingHook, Hook, SyncBuffersHook
from mmengine.runner import EpochBasedTrainLoop, Runner, get_priority
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from r2kd_mm.engine.schedule import ScheduleHook
from r2kd_mm.engine.seeding import SeededDataset, SeededSampler, changing_draws, derived_seed, seed_process
from r2kd_mm.registry import DATA_SAMPLERS, DATASETS, LOOPS

# In the message hub, and so in every checkpoint:
SAMPLER_SEED = 'sampler_seed'
# Last epoch, counted from 1, with a complete and logged validation. MMEngine shows names that begin with 'val'.
VALIDATED_EPOCH = 'last_validated_epoch'
# State of each EarlyStoppingHook after this validation.
EARLY_STOPPING = 'early_stopping'
# Attributes of an EarlyStoppingHook: from its config, and changing while it runs.
STOPPING_SETTINGS = ('monitor', 'rule', 'min_delta', 'check_finite', 'patience', 'stopping_threshold')
STOPPING_STATE = ('wait_count', 'best_score')


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop`` with an exact ``--resume``: same weights as without an interruption.

    - Draws: the transforms of a sample depend on (seed, epoch, index), see :class:`~r2kd_mm.engine.SeededDataset`.
      Each step depends on (seed, rank, iteration): the global generators are seeded before each step. The number of
      data workers does not matter. Before the first step, a few samples are drawn twice; a difference is logged.
    - Samplers: any finite sampler repeats its order on resume. If a sample occurs twice in an
      epoch, each copy has its own draws.
    - Middle of an epoch: training continues with the next batch, without loading the earlier ones.
    - Validation: if the run was killed before a validation ended, it is run before the next epoch.
    - ``EarlyStoppingHook``: its count and best score are restored, and a stopped run stays stopped.
    - Gradient accumulation: a window ends with its epoch. The last window may be shorter, with its own weight. A
      checkpoint between two windows is exact; a checkpoint inside a window lacks gradients and cannot be resumed.

    Weights, optimizer and logged values are bitwise equal, given the same machine type, number of processes and
    software. A GPU needs deterministic kernels (``randomness.deterministic=True``).

    Args:
        runner: Runner of the training.
        dataloader: Config of the data loader. Data set and sampler are wrapped when they are built, so the config
            keeps its structure.
        max_epochs: Number of epochs.
        val_begin: First epoch, counted from 1, after which the model is validated.
        val_interval: Epochs between validations; the last epoch always has one.
        dynamic_intervals: Pairs of an epoch and the ``val_interval`` from this epoch on.
        cycle: Number of epochs after which the random draws repeat, with the images in a new order; ``None`` for never.

    Raises:
        TypeError: ``dataloader`` is a built data loader, not a config.
        ValueError: The config has a batch sampler or an infinite sampler, or ``cycle`` is below 1. In :meth:`run`: the
            checkpoint is from inside a window of gradient accumulation, or its epoch and iteration do not fit.

    Example:
        >>> train_cfg = dict(type='ResumableTrainLoop', max_epochs=100, cycle=4)  # in a config
        >>> LOOPS.get(train_cfg['type']).__name__
        'ResumableTrainLoop'
    """

    _epoch: int
    _iter: int

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: list[tuple[int, int]] | None = None,
        cycle: int | None = None,
    ) -> None:
        dataloader = _with_seeds(dataloader, runner.seed, cycle)
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        self._first_batch = 0  # of the next epoch
        runner.register_hook(_ValidationRecordHook())
        runner.register_hook(ScheduleHook())

    def run(self) -> nn.Module:
        """Train until the last epoch is done and validated; return the model.

        If an error ends the training, the hooks' ``after_failed_train`` runs before the error is raised.
        """
        try:
            self._run()
        except BaseException:  # SystemExit and KeyboardInterrupt too
            self.runner.call_hook('after_failed_train')
            raise
        return self.runner.model

    def _run(self) -> None:
        self._take_over_seeds()
        self._take_over_early_stopping()
        self._first_batch = self._find_first_batch()
        self.runner.call_hook('before_train')
        self._check_draws()  # after the hooks: they name a sample that cannot be loaded
        info = self.runner.message_hub.runtime_info
        if self._first_batch == 0 and info.get(VALIDATED_EPOCH, 0) < self._epoch:
            for hook in self.runner.hooks:
                if isinstance(hook, SyncBuffersHook):
                    hook.called_in_train = True  # the checkpoint has the averages already
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due()
        self.runner.call_hook('after_train')

    def run_epoch(self) -> None:
        """Train on the remaining batches of one epoch."""
        first, self._first_batch = self._first_batch, 0
        self.dataloader.sampler.set_epoch(self._epoch)
        self.dataloader.sampler.skip = first * self.dataloader.batch_size
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self._begin_accumulation(first)
        for index, batch in enumerate(self.dataloader, start=first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Train on one batch, the ``idx``-th of its epoch."""
        seed_process(derived_seed('step', self.runner.seed, self.runner.rank, self._iter))
        self.runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        losses = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
        outputs = as_one_tensor(losses)
        self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _take_over_seeds(self) -> None:
        """Use the seeds of the checkpoint; without ``randomness.seed`` this process has drawn its own."""
        hub, sampler = self.runner.message_hub, self.dataloader.sampler
        self.dataloader.dataset.set_seed(self.runner.seed)
        sampler.run_seed = self.runner.seed
        if sampler.seed is not None:
            sampler.seed = hub.runtime_info.get(SAMPLER_SEED, sampler.seed)
            hub.update_info(SAMPLER_SEED, sampler.seed)

    def _take_over_early_stopping(self) -> None:
        """Restore the counts of early stopping; stay stopped if the same rules had stopped the run."""
        stoppers = _early_stoppers(self.runner)
        for hook in stoppers:
            if get_priority(hook.priority) > get_priority('LOW'):  # after the checkpoint that holds its count
                self.runner.hooks.remove(hook)
                self.runner.register_hook(hook, priority='BELOW_NORMAL')
        for hook, before in zip(stoppers, self.runner.message_hub.runtime_info.get(EARLY_STOPPING, [])):
            if before['settings']['monitor'] == hook.monitor:
                vars(hook).update(before['state'])
            if before['has_stopped'] and before['settings'] == _read(hook, STOPPING_SETTINGS):
                self.stop_training = True
                self.runner.logger.info(f'The resumed run had stopped early, after epoch {self._epoch}.')

    def _check_draws(self) -> None:
        """Warn about transforms that draw differently for the same (seed, epoch, index)."""
        trial = self.dataloader.dataset.try_out()
        if trial.changing:
            self.runner.logger.warning(f'A resumed run will not end in the same weights: {changing_draws(trial)}.')

    def _find_first_batch(self) -> int:
        """Return the number of batches of the current epoch that the checkpoint has already trained on."""
        if self._iter == 0:
            return 0
        info, length = self.runner.message_hub.runtime_info, len(self.dataloader)
        earlier_length = info['max_iters'] // info['max_epochs']  # as the run that saved the checkpoint had it
        batches = self._iter - self._epoch * earlier_length
        if not 0 <= batches <= earlier_length:
            raise ValueError(
                f'the checkpoint does not fit together: iteration {self._iter} is not in epoch {self._epoch + 1}, when '
                f'an epoch has {earlier_length} batches; resume from one that the checkpoint hook has saved'
            )
        if earlier_length != length:
            self.runner.logger.warning(
                f'An epoch has {length} batches, and had {earlier_length} in the resumed run: this run continues at '
                f'the start of epoch {self._epoch + 1}'
                + (f', of which {batches} batches had been trained.' if batches else '.')
            )
            batches, self._iter = 0, self._epoch * length
        self._begin_accumulation(batches)
        if batches and not self.runner.optim_wrapper.should_update():
            raise ValueError(
                f'the checkpoint of iteration {self._iter} was saved in the middle of an accumulation of gradients, '
                'which are lost; resume from another one, and save at an interval that accumulative_counts of '
                'optim_wrapper divides'
            )
        return batches

    def _begin_accumulation(self, batch: int) -> None:
        """Count the windows of gradient accumulation from the start of the epoch; ``batch`` comes next."""
        # MMEngine uses the model only for a warning about batch norm, at each call
        self.runner.optim_wrapper.initialize_count_status(nn.Identity(), batch, len(self.dataloader))

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and self._epoch >= self.val_begin and due:
            self.runner.val_loop.run()


def has_stopped_early(checkpoint: Mapping[str, Any]) -> bool:
    """Tell whether an ``EarlyStoppingHook`` ended the run of ``checkpoint`` before its last epoch."""
    info = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
    return any(state['has_stopped'] for state in info.get(EARLY_STOPPING, []))


def as_one_tensor(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return scalars as parts of one tensor on their device, without gradient; the log reads it in one transfer.

    Args:
        losses: Scalars by name, on any device, of any floating dtype.
    """
    values = torch.stack([value.detach().double() for value in losses.values()])
    return dict(zip(losses, values.unbind()))


class _ValidationRecordHook(Hook):
    """Hook that notes a complete validation, after its log and before the best checkpoint is saved."""

    priority = 'LOW'

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        runner.message_hub.update_info(VALIDATED_EPOCH, runner.epoch)
        stopped = runner.train_loop.stop_training
        states = [
            dict(settings=_read(hook, STOPPING_SETTINGS), state=_read(hook, STOPPING_STATE), has_stopped=stopped)
            for hook in _early_stoppers(runner)
        ]
        if states:
            runner.message_hub.update_info(EARLY_STOPPING, states)


def _early_stoppers(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def _read(hook: Hook, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(hook, name) for name in names}


def _with_seeds(dataloader: dict, seed: int, cycle: int | None) -> dict:
    """Return the config of a data loader that wraps its data set and sampler when it builds them."""
    if isinstance(dataloader, DataLoader):
        raise TypeError(
            'ResumableTrainLoop needs the config of train_dataloader, a dict, and got a ready DataLoader, into whose '
            'data set and sampler it cannot put its seeds; for a loader of your own take EpochBasedTrainLoop'
        )
    if dataloader.get('batch_sampler') is not None:
        raise ValueError(
            'ResumableTrainLoop cannot continue in the middle of an epoch of a batch_sampler; give train_dataloader a '
            'sampler and a batch_size, or take EpochBasedTrainLoop, whose resume is not exact'
        )
    return dict(
        dataloader,
        dataset=dict(type=_build_dataset, dataset=dataloader['dataset'], run_seed=seed),
        sampler=dict(type=_build_sampler, sampler=dataloader['sampler'], cycle=cycle, run_seed=seed),
    )


def _build_dataset(dataset: Any, run_seed: int) -> SeededDataset:
    if isinstance(dataset, dict):
        dataset = DATASETS.build(dataset)
    return SeededDataset(dataset, run_seed)


def _build_sampler(sampler: Any, cycle: int | None, run_seed: int, dataset: Dataset, seed: int | None) -> SeededSampler:
    """Build the sampler as the Runner would, which gives ``dataset`` and ``seed``."""
    if isinstance(sampler, dict):
        sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
    return SeededSampler(sampler, cycle, run_seed)
