"""Train short runs on the simulated device, and record where each step waits for the device."""

from __future__ import annotations

from typing import Any

import toys
from devices import pretend
from mmengine.hooks import Hook
from mmengine.runner import Runner

HOOKS = ('FiniteCheckHook', 'GradientCheckHook', 'RankStateHook', 'RunRecordHook')
LOSSES = dict(loss_value=dict(type='CorrelationDistanceLoss'), loss_rank=dict(type='RankDistanceLoss'))


def small(width: int = 4) -> dict:
    """Config of a classifier with one residual stage."""
    network = toys.classifier(width=width)
    network['backbone'].update(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    network['head'].update(in_channels=width, mid_channels=[])
    return dict(network, head=dict(type='LinearClsHead', num_classes=toys.NUM_CLASSES, in_channels=width))


def distiller(**fields: Any) -> dict:
    """Config of R2KD with the small classifiers."""
    whole = dict(
        type='R2KD',
        architecture=small(),
        teacher=small(6),
        allow_untrained_teacher=True,
        losses=LOSSES,
        pruner=dict(type='MagnitudePruner', amount=0.1),
        augmentation=dict(type='CutMix'),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3),
    )
    return dict(whole, **fields)


def loader(dataset: Any, shuffle: bool = True) -> dict:
    """A data loader as the tools set it up for a GPU."""
    return dict(
        dataset=dataset,
        batch_size=10,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        pin_memory=True,
        collate_fn=dict(type='default_collate'),
    )


class WaitsHook(Hook):
    """Keep the waits of each step, from the loading of its batch on."""

    priority = 'LOWEST'

    def before_train_epoch(self, runner: Runner) -> None:
        self.steps: list[list[pretend.Wait]] = getattr(self, 'steps', [])
        pretend.device_state.waits = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.steps.append(pretend.device_state.waits)
        pretend.device_state.waits = []


def runner(work_dir: Any, model: dict | None = None, *, hooks: tuple | list = (), **fields: Any) -> Runner:
    """A Runner with all hooks that look at a step; 4 steps an epoch, a log after every second."""
    whole = dict(
        train_dataloader=loader(toys.Images()),
        train_cfg=dict(type='ResumableTrainLoop', max_epochs=1),
        val_dataloader=loader(toys.Images(seed=1), shuffle=False),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=2)),
    )
    hooks = [*(dict(type=name) for name in HOOKS), *hooks]
    return toys.runner(model or distiller(), work_dir, hooks=hooks, **dict(whole, **fields))


def waits_of_steps(work_dir: Any, model: dict | None = None, **fields: Any) -> list[list[pretend.Wait]]:
    """Train without validation; return the waits of each step."""
    fields = dict(dict(val_dataloader=None, val_cfg=None, val_evaluator=None), **fields)
    run, hook = runner(work_dir, model, **fields), WaitsHook()
    run.register_hook(hook)
    run.train()
    return hook.steps
