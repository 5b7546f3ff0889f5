"""Provide a hook that saves the weights of every rank, for the tests with several processes."""

from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class SaveRankWeights(Hook):
    """Save what this rank's model has learned in ``work_dir/rank_<rank>.pt``, and the first images that it saw."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict) -> None:
        if runner.iter == 0:
            self.images = data_batch['inputs'].clone()

    def after_train(self, runner: Runner) -> None:
        weights = dict(runner.model.module.state_dict(), images=self.images)
        torch.save(weights, Path(runner.work_dir) / f'rank_{runner.rank}.pt')
