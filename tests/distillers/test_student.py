"""Layer-wise learning-rate decay works for a student inside a distiller, even if the student is wrapped."""

import pytest
import toys
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from r2kd_mm.distillers.student import layer_depth
from r2kd_mm.registry import MODELS

VIT = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16),
        img_size=8,
        patch_size=4,
    ),
    head=dict(type='VisionTransformerClsHead', num_classes=toys.NUM_CLASSES, in_channels=8),
)


def groups_of(model, constructor='DefaultOptimWrapperConstructor', prefix='', **paramwise):
    """The learning rate and weight decay of each parameter, by its name."""
    cfg = dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5), constructor=constructor, paramwise_cfg=paramwise)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        optimizer = build_optim_wrapper(model, cfg).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(group['params'][0])].removeprefix(prefix): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
    }


def distil(student):
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        fields = dict(type='LogitDistiller', teacher=None, losses=dict(loss_kd=dict(type='KLDivergenceLoss')))
        return MODELS.build(dict(fields, architecture=student))


def test_a_student_decays_its_learning_rate_by_layers_as_it_does_alone():
    options = dict(
        constructor='LearningRateDecayOptimWrapperConstructor',
        layer_decay_rate=0.5,
        custom_keys={'.cls_token': dict(decay_mult=0.0)},
    )
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        alone = groups_of(MODELS.build(VIT), **options)
    found = groups_of(distil(VIT), prefix='architecture.', **options)
    assert found == alone
    assert found['backbone.cls_token'] == (0.5**4, 0.0)  # 5 depths, of which the first is the stem
    assert found['backbone.layers.2.attn.qkv.weight'] == (0.5, 0.5)
    assert found['head.layers.head.weight'] == (1.0, 0.5)


def test_a_student_that_is_wrapped_decays_as_well():
    algorithm = nn.Module()
    algorithm.architecture = distil(VIT).architecture
    assert layer_depth(algorithm, 'architecture.architecture.backbone.layers.1.ln1.weight') == (2, 5)
    assert layer_depth(algorithm, 'features.connectors.regressor.weight') == (4, 5)


def test_a_student_without_depths_is_refused():
    with pytest.raises(ValueError, match='asks for the depth of each parameter, which MobileNetV2 does not tell'):
        groups_of(
            distil(dict(toys.classifier(), backbone=dict(type='MobileNetV2', out_indices=(7,)))),
            constructor='LearningRateDecayOptimWrapperConstructor',
            layer_decay_rate=0.5,
        )
