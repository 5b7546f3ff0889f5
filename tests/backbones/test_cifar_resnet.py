"""Each CIFAR ResNet has the depth and the width that its name states."""

import pytest
from torch import nn

from r2kd_mm.backbones import CIFARResNet


def convolutions(network: nn.Module, kernel_size: int) -> list[nn.Conv2d]:
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (kernel_size, kernel_size)
    ]


@pytest.mark.parametrize('depth', [8, 20, 56])
def test_depth_counts_the_3x3_convolutions_and_the_classifier(depth):
    assert len(convolutions(CIFARResNet(depth), 3)) + 1 == depth


def test_shortcuts_that_change_the_shape_are_convolutions():
    shapes = [(conv.in_channels, conv.out_channels, conv.stride) for conv in convolutions(CIFARResNet(20), 1)]
    assert shapes == [(16, 32, (2, 2)), (32, 64, (2, 2))]


def test_a_stem_of_another_width_needs_a_shortcut_in_the_first_stage():
    network = CIFARResNet(8, stem_channels=32, base_channels=64)
    shapes = [(conv.in_channels, conv.out_channels, conv.stride) for conv in convolutions(network, 1)]
    assert shapes == [(32, 64, (1, 1)), (64, 128, (2, 2)), (128, 256, (2, 2))]


@pytest.mark.parametrize('depth', [2, 18, -4])
def test_refuses_other_depths(depth):
    with pytest.raises(ValueError, match=rf'depth must be 6 \* n \+ 2 .* got {depth}'):
        CIFARResNet(depth)
