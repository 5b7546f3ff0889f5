"""Wide ResNets: the pre-activation block, compared with one written by hand, the depth and the width."""

import pytest
import torch
from mmrazor.models.task_modules import RecorderManager
from torch import nn

from r2kd_mm.backbones import CIFARWideResNet
from r2kd_mm.backbones.cifar_wide_resnet import PreActivationBlock

BATCH_NORM = dict(type='BN')


def test_a_block_without_residual_is_the_identity():
    block = PreActivationBlock(4, 4, 1, BATCH_NORM).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(('out_channels', 'stride'), [(4, 2), (6, 1)])
def test_a_shortcut_that_changes_the_shape_convolves_the_activated_input(out_channels, stride):
    block = PreActivationBlock(4, out_channels, stride, BATCH_NORM).eval()
    nn.init.zeros_(block.conv2.weight)
    nn.init.constant_(block.norm1.bias, 0.3)
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(x), block.shortcut(block.norm1(x).relu()))


@pytest.mark.parametrize('depth', [10, 16, 40])
def test_depth_counts_all_convolutions(depth):
    network = CIFARWideResNet(depth, widen_factor=2)
    # 6 n + 4: conv1, 2 n in each of three stages, and three shortcuts
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == depth


def test_the_first_stages_are_sums_and_the_last_is_activated():
    maps = CIFARWideResNet(10, out_indices=(0, 1, 2, 3)).eval()(torch.randn(2, 3, 16, 16))
    assert all((feature < 0).any() for feature in maps[:3])
    assert (maps[3] >= 0).all()


def test_mmrazor_taps_values_before_the_activation():
    network = CIFARWideResNet(10).eval()
    for module in network.modules():  # as module_inplace=False of mmrazor's algorithms does
        if isinstance(module, nn.ReLU):
            module.inplace = False
    recorders = RecorderManager(dict(norm=dict(type='ModuleOutputs', source='layer2.0.norm1')))
    recorders.initialize(network)
    with recorders:
        network(torch.randn(2, 3, 16, 16))
    assert (recorders.get_recorder('norm').get_record_data() < 0).any()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=4), r'depth must be 6 \* n \+ 4 .* got 4'),
        (dict(depth=20), r'depth must be 6 \* n \+ 4 .* got 20'),
        (dict(depth=16, widen_factor=0), 'widen_factor must be >= 1, got 0'),
    ],
)
def test_refuses_other_depths_and_widths(arguments, message):
    with pytest.raises(ValueError, match=message):
        CIFARWideResNet(**arguments)
