"""A ``paramwise_cfg`` option that would change nothing is refused."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn


def optimizer_of(paramwise_cfg: dict, constructor: str = 'DefaultOptimWrapperConstructor') -> torch.optim.Optimizer:
    """Build the optimizer of a small model whose names are those of a distillation."""
    model = nn.Module()
    model.architecture = nn.ModuleDict(
        dict(backbone=nn.ModuleDict(dict(conv=nn.Conv2d(3, 4, 1))), head=nn.Linear(4, 2))
    )
    cfg = dict(optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1), constructor=constructor)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        return build_optim_wrapper(model, dict(cfg, paramwise_cfg=paramwise_cfg)).optimizer


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(custom_keys={'student.head': dict(lr_mult=0.1)}),
            "no parameter has 'student.head' in its name.*begin with architecture.backbone, architecture.head$",
        ),
        (
            dict(custom_keys={'architecture.backbone.bn': dict(decay_mult=0)}),
            "no parameter has 'architecture.backbone.bn'",
        ),
        (dict(custom_keys={'backbon': dict(lr_mult=0)}), None),  # a part of a name, as MMEngine has it
        (dict(custom_keys={'backbome': dict(decay_mult=0)}), "no parameter has 'backbome'.* did you mean 'backbone'"),
        (dict(custom_keys={'teacher': dict(lr_mult=0)}), "no parameter has 'teacher'"),
        (dict(custom_keys={'head': dict(lr_mul=0.1)}), r"custom_keys\['head'\]: nothing reads 'lr_mul'; .* 'lr_mult'"),
        (dict(norm_decay_mul=0), "Constructor does not take 'norm_decay_mul'; did you mean 'norm_decay_mult'"),
        (dict(bypass_duplicate=True, bias_lr_mult=2, custom_keys={'head': dict(lr_mult=0.1, momentum=0)}), None),
    ],
)
def test_an_option_of_a_parameter_that_changes_nothing_is_refused(options, message):
    if message is None:
        optimizer_of(options)
    else:
        with pytest.raises(ValueError, match=f'^paramwise_cfg.*{message}'):
            optimizer_of(options)


def test_a_key_of_a_recipe_for_parameters_that_only_other_networks_have_passes():
    """mmpretrain's schedules name parameters that only some networks have."""
    optimizer = optimizer_of(dict(custom_keys={'.cls_token': dict(decay_mult=0.0), 'head': dict(lr_mult=0.5)}))
    assert sorted({group['lr'] for group in optimizer.param_groups}) == [0.5, 1.0]


def test_layer_wise_decay_takes_no_factor_of_the_learning_rate():
    name = 'LearningRateDecayOptimWrapperConstructor'
    with pytest.raises(ValueError, match=f'{name} does not read lr_mult; it takes decay_mult'):
        optimizer_of(dict(custom_keys={'head': dict(lr_mult=2)}), name)
    with pytest.raises(ValueError, match=f"{name} does not take 'bias_lr_mult'; did you mean 'bias_decay_mult'"):
        optimizer_of(dict(bias_lr_mult=2), name)
