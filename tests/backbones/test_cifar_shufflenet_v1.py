"""ShuffleNetV1 for small images: its shuffle unit, compared with one written by hand."""

import torch
from mmpretrain.models.utils import channel_shuffle
from torch import nn

from r2kd_mm.backbones import CIFARShuffleNetV1
from r2kd_mm.backbones.cifar_shufflenet_v1 import ShuffleUnit

BATCH_NORM = dict(type='BN')


def test_a_strided_unit_ends_in_its_pooled_input():
    unit = ShuffleUnit(24, 240, 2, groups=3, first_groups=1, norm_cfg=BATCH_NORM).eval()
    x = torch.randn(2, 24, 8, 8)
    output = unit(x)
    pooled = nn.functional.avg_pool2d(x, kernel_size=3, stride=2, padding=1)
    assert output.shape == (2, 240, 4, 4)
    torch.testing.assert_close(output[:, 216:], pooled.relu())


def test_another_unit_adds_its_input_before_the_activation():
    unit = ShuffleUnit(24, 24, 1, groups=3, first_groups=3, norm_cfg=BATCH_NORM).eval()
    nn.init.zeros_(unit.conv3.conv.weight)  # no residual
    x = torch.randn(2, 24, 8, 8)
    torch.testing.assert_close(unit(x), x.relu())


def test_the_shuffle_stands_between_the_first_two_convolutions():
    unit = ShuffleUnit(24, 24, 1, groups=3, first_groups=3, norm_cfg=BATCH_NORM).eval()
    x = torch.randn(2, 24, 8, 8)
    residual = unit.conv3(unit.conv2(channel_shuffle(unit.conv1(x), 3)))
    torch.testing.assert_close(unit(x), (x + residual).relu())


def test_the_depthwise_convolution_is_activated():
    assert isinstance(CIFARShuffleNetV1().layer1[0].conv2.activate, nn.ReLU)


def test_only_the_very_first_unit_is_not_grouped():
    groups = [[unit.conv1.groups for unit in stage] for stage in CIFARShuffleNetV1().stages]
    assert groups == [[1, 3, 3, 3], [3] * 8, [3] * 4]
