"""Save and restore the batch-norm buffers of every rank; MMEngine saves only those of rank 0."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from r2kd_mm.engine import unwrapped_model
from r2kd_mm.registry import HOOKS

# In a checkpoint: for each rank, its buffers by name.
RANK_BUFFERS = 'rank_buffers'


@HOOKS.register_module()
class RankStateHook(Hook):
    """Hook that saves the batch-norm statistics of each process, and restores them on ``--resume``.

    Every process computes statistics of its own batches, and ``SyncBuffersHook`` averages them at the end of an epoch.
    So a checkpoint from the middle of an epoch stores, for each process, the buffers that differ between processes.
    This covers the model and its moving average (``EMAHook``). With one process, the checkpoint stays unchanged. If the
    number of processes changes, all processes start from the buffers of rank 0.

    Every process must call ``runner.save_checkpoint``, as MMEngine's hooks and ours do; only rank 0 writes the file.

    Example:
        >>> custom_hooks = [dict(type='RankStateHook')]  # in a config
        >>> isinstance(HOOKS.build(custom_hooks[0]), RankStateHook)
        True
    """

    def __init__(self) -> None:
        self._to_save: list[dict[str, Tensor]] = []
        self._to_restore: dict[str, Tensor] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the buffers of this process until MMEngine has loaded those of rank 0."""
        of_ranks = checkpoint.get(RANK_BUFFERS)
        if of_ranks is None or not runner._resume:
            return
        if len(of_ranks) != runner.world_size:
            runner.logger.warning(
                f'The checkpoint has the batch-norm statistics of {len(of_ranks)} processes, and this run has '
                f'{runner.world_size}: each starts from those of the first.'
            )
            return
        self._to_restore = of_ranks[runner.rank]

    def before_train(self, runner: Runner) -> None:
        """Restore the buffers of this process, and collect the buffers of all processes at each save."""
        buffers = _buffers(runner)
        for name in self._to_restore.keys() & buffers.keys():
            buffers[name].copy_(self._to_restore[name])
        if runner.world_size == 1:
            return
        save_on_first_rank = runner.save_checkpoint

        def save_checkpoint(*args: Any, **kwargs: Any) -> None:
            # before_save_checkpoint is too late to collect: only the first process comes that far
            own = {name: buffer.cpu() for name, buffer in _buffers(runner).items()}
            self._to_save = _differing(all_gather_object(own))
            save_on_first_rank(*args, **kwargs)

        runner.save_checkpoint = save_checkpoint

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the buffers that differ between the processes to the checkpoint."""
        if self._to_save:
            checkpoint[RANK_BUFFERS] = self._to_save

    def after_train(self, runner: Runner) -> None:
        """Restore the Runner's own method."""
        vars(runner).pop('save_checkpoint', None)


def _buffers(runner: Runner) -> dict[str, Tensor]:
    """Return the buffers of the trained model and of its moving average by name."""
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    networks = nn.ModuleDict(dict(model=unwrapped_model(runner), averages=nn.ModuleList(averages)))
    return dict(networks.named_buffers())


def _differing(of_ranks: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Keep, for each rank, the tensors that are not equal on all ranks; an empty list if all are equal."""
    first = of_ranks[0]
    names = [name for name in first if any(not torch.equal(tensors[name], first[name]) for tensors in of_ranks)]
    return [{name: tensors[name] for name in names} for tensors in of_ranks] if names else []
