"""MobileNetV1: its number of parameters, its width, its layers. Its logits are compared by tests/test_zoo.py."""

import pytest
import torch
from torch import nn

from r2kd_mm.backbones import MobileNetV1


def test_has_the_parameters_of_the_paper():
    of_head = 1024 * 1000 + 1000
    assert sum(parameter.numel() for parameter in MobileNetV1().parameters()) == 4_231_976 - of_head


def test_widen_factor_scales_the_channels_to_multiples_of_eight():
    (features,) = MobileNetV1(widen_factor=0.3).eval()(torch.zeros(1, 3, 32, 32))
    assert features.shape[1] == 304  # 0.3 * 1024 = 307.2


def test_norm_and_activation_can_be_chosen():
    network = MobileNetV1(norm_cfg=dict(type='GN', num_groups=8), act_cfg=dict(type='ReLU6'))
    kinds = {type(module) for module in network.modules()}
    assert {nn.GroupNorm, nn.ReLU6} <= kinds
    assert not {nn.BatchNorm2d, nn.ReLU} & kinds


def test_refuses_a_width_out_of_range():
    with pytest.raises(ValueError, match='widen_factor must be > 0, got 0'):
        MobileNetV1(widen_factor=0)
