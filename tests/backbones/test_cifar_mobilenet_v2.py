"""MobileNetV2 for small images: its inverted residual block, compared with one written by hand, and its widths."""

import pytest
import torch
from torch import nn

from r2kd_mm.backbones import CIFARMobileNetV2
from r2kd_mm.backbones.cifar_mobilenet_v2 import InvertedResidual

BATCH_NORM = dict(type='BN')


@pytest.mark.parametrize(('out_channels', 'stride', 'with_shortcut'), [(4, 1, True), (4, 2, False), (6, 1, False)])
def test_the_input_is_added_where_the_shape_stays(out_channels, stride, with_shortcut):
    block = InvertedResidual(4, out_channels, stride, 6, BATCH_NORM).eval()
    nn.init.zeros_(block.conv[2].conv.weight)  # no residual
    x = torch.randn(2, 4, 8, 8)
    output = block(x)
    assert torch.equal(output, x) is with_shortcut
    assert output.shape == (2, out_channels, 8 // stride, 8 // stride)


def test_the_projection_is_linear():
    output = InvertedResidual(4, 6, 1, 2, BATCH_NORM).eval()(torch.randn(2, 4, 8, 8))
    assert (output < 0).any()


def test_the_first_stage_expands_by_a_convolution_too():
    block = CIFARMobileNetV2(widen_factor=0.5).layer1[0]
    assert [(layer.in_channels, layer.out_channels) for layer in block.conv] == [(16, 16), (16, 16), (16, 8)]


def test_activations_are_not_clipped():
    layers = InvertedResidual(4, 4, 1, 6, BATCH_NORM).eval().conv
    assert layers[0](1e4 * torch.ones(1, 4, 8, 8)).max() > 6
    assert {type(module) for module in CIFARMobileNetV2().modules()} & {nn.ReLU, nn.ReLU6} == {nn.ReLU}


def test_channels_are_rounded_down():
    stages = CIFARMobileNetV2(widen_factor=0.3, out_indices=range(8)).eval()(torch.zeros(1, 3, 32, 32))
    assert [stage.shape[1] for stage in stages] == [4, 7, 9, 19, 28, 48, 96, 1280]


def test_refuses_a_width_that_leaves_no_channel():
    with pytest.raises(ValueError, match=r'widen_factor must be >= 1/16, got 0\.05'):
        CIFARMobileNetV2(widen_factor=0.05)
