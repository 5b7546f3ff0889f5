from pathlib import Path

import torch
import toys
from mmpretrain.models import ImageClassifier
from ranks import run_on_ranks

from r2kd_mm.registry import MODELS


@MODELS.register_module()
class WithSpareLayer(ImageClassifier):
    """A classifier with two layers that it never asks, of which one is frozen."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.spare = torch.nn.Linear(2, 2)
        self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)


def train(work_dir, kind='ImageClassifier', **fields):
    """Train for one epoch; what went wrong, and what the log says."""
    runner = toys.runner(dict(toys.classifier(), type=kind), work_dir, hooks=[dict(type='GradientCheckHook')], **fields)
    try:
        runner.train()
        error = ''
    except ValueError as stopped:
        error = str(stopped)
    log = ''.join(path.read_text() for path in Path(work_dir).glob('**/*.log'))
    return error, log, runner.epoch


def test_a_parameter_without_gradient_is_named_and_training_continues(tmp_path):
    error, log, epochs = train(tmp_path, 'WithSpareLayer')
    assert error == ''
    assert epochs == 1
    assert log.count('2 trainable parameters received no gradient in the first step: spare.weight, spare.bias;') == 1


def test_nothing_is_said_of_a_network_that_is_trained_whole(tmp_path):
    _, log, _ = train(tmp_path)
    assert 'no gradient' not in log


def test_works_with_other_hooks_of_the_optimizer(tmp_path):
    distiller = dict(
        type='LogitDistiller',
        architecture=toys.classifier(),
        teacher=toys.classifier(),
        allow_untrained_teacher=True,
        losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
    )
    hooks = [dict(type='GradientCheckHook'), dict(type='FiniteCheckHook')]
    runner = toys.runner(distiller, tmp_path, hooks=hooks)
    runner.train()
    assert runner.epoch == 1
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_a_first_step_that_is_left_out_blames_no_parameter(tmp_path):
    class Broken(toys.Images):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return dict(item, inputs=torch.full_like(item['inputs'], torch.nan)) if index == 0 else item

    distiller = dict(
        type='LogitDistiller',
        architecture=dict(toys.classifier(), type='WithSpareLayer'),
        teacher=toys.classifier(),
        allow_untrained_teacher=True,
        losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
    )
    toys.runner(
        distiller,
        tmp_path,
        hooks=[dict(type='FiniteCheckHook', action='skip'), dict(type='GradientCheckHook')],
        train_dataloader=dict(
            dataset=Broken(), batch_size=10, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False)
        ),
    ).train()
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'this step is left out' in log
    assert '2 trainable parameters received no gradient in the first step: architecture.spare.weight' in log


def wrapped(find_unused_parameters):
    return dict(
        model_wrapper_cfg=dict(
            type='r2kd_mm.PortableDistributedDataParallel', find_unused_parameters=find_unused_parameters
        )
    )


def test_several_processes_stop_before_the_step_that_would_fail_without_a_name(tmp_path):
    for error, _, epochs in run_on_ranks(2, train_on_ranks, str(tmp_path), False):
        assert 'spare.weight, spare.bias; with several processes, take them out' in error
        assert epochs == 0


def test_several_processes_continue_if_the_config_allows_it(tmp_path):
    for error, _, epochs in run_on_ranks(2, train_on_ranks, str(tmp_path), True):
        assert error == ''
        assert epochs == 1


def train_on_ranks(work_dir, find_unused_parameters):
    return train(work_dir, 'WithSpareLayer', cfg=wrapped(find_unused_parameters), launcher='pytorch')
