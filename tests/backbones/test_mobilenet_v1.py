"""MobileNetV1 against the reference network, and its switches."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from r2kd_mm.backbones import MobileNetV1


def classifier() -> nn.Module:
    return ImageClassifier(
        backbone=dict(type='r2kd_mm.MobileNetV1'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=1024),
    ).eval()


def reference_name(name: str) -> str:
    """The name in the reference state dict, ``model.<block>.<layer>`` and ``fc``, of one of our parameters."""
    if name.startswith('head.'):
        return name.removeprefix('head.')
    parts = name.split('.')  # backbone.conv1.bn.weight, or backbone.layer4.2.pointwise_conv.conv.weight
    layer = 0 if parts[-2] == 'conv' else 1
    if parts[1] == 'conv1':
        return f'model.0.{layer}.{parts[-1]}'
    blocks_before = (0, 1, 3, 5, 11)[int(parts[1].removeprefix('layer')) - 1]  # stages of 1, 2, 2, 6, 2 blocks
    # a reference block is conv, bn, relu, conv, bn, relu
    layer += 3 if parts[3] == 'pointwise_conv' else 0
    return f'model.{1 + blocks_before + int(parts[2])}.{layer}.{parts[-1]}'


def drawn_state(state: list, seed: int) -> dict[str, Tensor]:
    """Weights drawn by the rule in the reference folder's README."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, shape in state:
        if name.endswith('num_batches_tracked'):
            value = np.zeros(shape, np.int64)
        elif name.endswith('running_var') or (name.endswith('weight') and len(shape) == 1):
            value = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif len(shape) >= 2:
            value = (rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
        else:
            value = (rng.standard_normal(shape) * 0.1).astype(np.float32)
        drawn[name] = torch.from_numpy(np.asarray(value))
    return drawn


def test_has_the_parameters_of_the_paper():
    assert sum(parameter.numel() for parameter in classifier().parameters()) == 4_231_976


def test_gives_the_logits_of_the_reference_network(reference_dir: Path):
    reference = json.loads((reference_dir / 'zoo_keys.json').read_text())['imagenet/mobilenetv1']
    expected = np.load(reference_dir / 'zoo_logits_seed11.npz')['imagenet/mobilenetv1']
    weights = drawn_state(reference['state'], seed=11)
    network = classifier()
    ours = {name: weights.pop(reference_name(name)) for name in network.state_dict()}
    assert not weights  # every reference tensor has its place
    network.load_state_dict(ours)
    images = torch.from_numpy(np.random.default_rng(1011).standard_normal((2, 3, 224, 224)).astype(np.float32))
    with torch.no_grad():
        logits = network(images, mode='tensor').numpy()
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_returns_every_stage_at_its_stride():
    stages = MobileNetV1(out_indices=range(5))(torch.zeros(1, 3, 64, 64))
    assert [tuple(stage.shape[1:]) for stage in stages] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (1024, 2, 2),
    ]


def test_widen_factor_scales_the_channels_to_multiples_of_eight():
    (features,) = MobileNetV1(widen_factor=0.3).eval()(torch.zeros(1, 3, 32, 32))
    assert features.shape[1] == 304  # 0.3 * 1024 = 307.2


def test_frozen_stages_stay_in_eval_mode_without_gradient():
    network = MobileNetV1(frozen_stages=2).train()
    for name, module in network.named_children():
        frozen = name in ('conv1', 'layer1', 'layer2')
        assert all(parameter.requires_grad is not frozen for parameter in module.parameters())
        assert all(child.training is not frozen for child in module.modules())


def test_nothing_is_frozen_by_default():
    assert all(parameter.requires_grad for parameter in MobileNetV1().parameters())


def test_norm_eval_keeps_the_running_statistics():
    images = torch.randn(2, 3, 32, 32)
    for norm_eval in (False, True):
        network = MobileNetV1(norm_eval=norm_eval).train()
        before = network.conv1.bn.running_mean.clone()
        network(images)
        assert torch.equal(network.conv1.bn.running_mean, before) is norm_eval


def test_norm_and_activation_can_be_chosen():
    network = MobileNetV1(norm_cfg=dict(type='GN', num_groups=8), act_cfg=dict(type='ReLU6'))
    kinds = {type(module) for module in network.modules()}
    assert {nn.GroupNorm, nn.ReLU6} <= kinds
    assert not {nn.BatchNorm2d, nn.ReLU} & kinds


def test_train_returns_the_network():
    network = MobileNetV1()
    assert network.eval() is network


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        (dict(out_indices=(5,)), r'out_indices must be in \[0, 4\], got \(5,\)'),
        (dict(frozen_stages=6), r'frozen_stages must be in \[-1, 5\], got 6'),
        (dict(widen_factor=0), 'widen_factor must be > 0, got 0'),
    ],
)
def test_refuses_values_out_of_range(argument, message):
    with pytest.raises(ValueError, match=message):
        MobileNetV1(**argument)
