"""VGG for small images: its depths, its pooling layers, and the layers of a stage."""

import pytest
import torch
from torch import nn

from r2kd_mm.backbones import CIFARVGG


@pytest.mark.parametrize(('depth', 'num_convs'), [(8, 5), (11, 8), (13, 10), (16, 13), (19, 16)])
def test_depth_decides_the_convolutions(depth, num_convs):
    assert sum(isinstance(module, nn.Conv2d) for module in CIFARVGG(depth).modules()) == num_convs


@pytest.mark.parametrize(('num_pools', 'sizes'), [(0, [32] * 5), (3, [32, 16, 8, 4, 4]), (4, [32, 16, 8, 4, 2])])
def test_each_pooling_opens_the_next_stage(num_pools, sizes):
    maps = CIFARVGG(8, num_pools=num_pools, out_indices=range(5)).eval()(torch.zeros(1, 3, 32, 32))
    assert [feature.shape[-1] for feature in maps] == sizes


def test_a_convolution_has_a_bias_and_is_normalised_before_its_activation():
    stage = CIFARVGG(11).layer3
    assert [type(layer) for layer in stage] == [nn.MaxPool2d, *[nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2]
    assert stage.conv1.bias is not None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=12), 'depth must be one of 8, 11, 13, 16, 19, got 12'),
        (dict(depth=8, num_pools=5), r'num_pools must be in \[0, 4\], got 5'),
    ],
)
def test_refuses_other_depths_and_poolings(arguments, message):
    with pytest.raises(ValueError, match=message):
        CIFARVGG(**arguments)
