"""Train the configs of configs/compose for a few iterations."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import toolbox
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from r2kd_mm.distillers import R2KD
from r2kd_mm.registry import MODELS

# What lets mmrazor do in four iterations what it does in thousands.
SHORT = {
    'compose-l1_res14_res14_digits': {'model.architecture.step_freq': 1, 'model.architecture.prune_times': 2},
    'compose-group-fisher_res14_res14_digits': {'model.architecture.interval': 2},
    'compose-dmcp_res14_res14_digits': {'model.arch_start_train': 1, 'model.arch_train_freq': 1},
}


@pytest.fixture(scope='session')
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Runner]:
    """Make the Runner of a config, on two batches of 10 images an epoch and random weights instead of trained ones."""
    folder = tmp_path_factory.mktemp('compose')
    weights = folder / 'res14.pth'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        network = MODELS.build(load('compose-fitnet_res14_res6_digits').model.teacher)
    network.init_weights()
    torch.save(network.state_dict(), weights)

    def make(name: str, work_dir: Path, epochs: int = 1, **options: Any) -> Runner:
        cfg = load(name)
        cfg.merge_from_dict(
            {
                'work_dir': str(work_dir),
                'experiment_name': str(work_dir).replace('/', '_'),
                'train_cfg.max_epochs': epochs,
                'train_cfg.val_interval': epochs,
                'train_dataloader.batch_size': 10,
                'train_dataloader.dataset.train_size': 20,
                'val_dataloader.dataset.indices': 20,
                'default_hooks.checkpoint.interval': 1,
                'default_hooks.checkpoint.max_keep_ckpts': -1,
                **SHORT.get(name, {}),
                **options,
            }
        )
        cfg.param_scheduler = None  # at the full rate from the first step on
        if 'teacher_ckpt' in cfg.model:
            cfg.model.teacher_ckpt = str(weights)
        if 'init_cfg' in cfg.model.architecture.get('architecture', {}):
            cfg.model.architecture.architecture.init_cfg.checkpoint = str(weights)
        if cfg.model.type is R2KD:
            cfg.model.update(allow_untrained_teacher=True, teacher_engine='plain')
        return Runner.from_cfg(cfg)

    return make


@pytest.fixture(scope='session')
def trained(run: Callable[..., Runner], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Runner]:
    """The Runner of a config after two epochs, whose checkpoints are in its work dir; a test only reads it."""

    @cache
    def train(name: str) -> Runner:
        runner = run(name, tmp_path_factory.mktemp(name), epochs=2)
        runner.train()
        return runner

    return train


@pytest.fixture
def unmoved(trained: Callable[[str], Runner]) -> Callable[[str], list[str]]:
    """The trainable weights of a config, by name, that its second epoch has left as they were."""

    def compare(name: str) -> list[str]:
        runner = trained(name)
        before, after = (
            torch.load(f'{runner.work_dir}/epoch_{epoch}.pth', weights_only=False)['state_dict'] for epoch in (1, 2)
        )
        return [key for key, _ in runner.model.named_parameters() if torch.equal(before[key], after[key])]

    return compare


def load(name: str) -> Config:
    """A committed config of configs/compose."""
    return Config.fromfile(toolbox.ROOT / f'configs/compose/{name}.py')
