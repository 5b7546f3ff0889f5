import copy
import logging

import pytest
import torch
from mmengine.registry import DefaultScope
from small_networks import EXACT_TOLERANCE, Net, conv_norm, difference, folded_norms, images, norms, settled
from torch import nn

from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.engine import TeacherEngine
from r2kd_mm.teachers.folding import Pair, fold_batch_norms_, try_out


def conv_twice(net, x):
    return net.norm(net.conv(x)) + net.conv(x)


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class StandardizedConv(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight / self.weight.norm(), self.bias)


class NormThenActivation(nn.BatchNorm2d):
    """As timm's ``BatchNormAct2d``: the activation is a submodule."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        return self.act(super().forward(x))


def norm_of_tokens(net, x):
    tokens = net.linear(net.conv(x).flatten(2).transpose(1, 2))
    return net.norm2(tokens.flatten(0, 1)).reshape_as(tokens).transpose(1, 2)[..., None]


@pytest.mark.parametrize(
    ('net', 'folded'),
    [
        (lambda: Net(conv_norm), ['norm']),
        (lambda: Net(conv_norm, conv=nn.Conv2d(3, 4, 3, bias=False)), ['norm']),
        (lambda: Net(conv_norm, norm=nn.BatchNorm2d(4, affine=False)), ['norm']),
        (lambda: Net(lambda net, x: net.norm2(net.conv2(conv_norm(net, x).relu_())),
                     norm2=nn.BatchNorm2d(4), conv2=nn.Conv2d(4, 4, 3, groups=2)), ['norm', 'norm2']),
        (lambda: Net(lambda net, x: net.norm2(net.linear(net.conv(x).mean((2, 3))))[:, :, None, None],
                     linear=nn.Linear(4, 4), norm2=nn.BatchNorm1d(4)), ['norm2']),
        (lambda: Net(conv_norm, norm=NormThenActivation(4)), ['norm']),
        (lambda: Net(norm_of_tokens, linear=nn.Linear(4, 4), norm2=nn.BatchNorm1d(4)), ['norm2']),
        (lambda: Net(lambda net, x: net.norm(net.conv(x).relu_())), []),
        (lambda: Net(lambda net, x: net.conv2(net.norm(x)), norm=nn.BatchNorm2d(3), conv2=nn.Conv2d(3, 4, 3)), []),
        (lambda: Net(lambda net, x: (lambda y: net.norm(y) + y)(net.conv(x))), []),
        (lambda: Net(lambda net, x: (lambda y: y.sigmoid() + net.norm(y))(net.conv(x))), []),
        (lambda: Net(lambda net, x: (lambda y: net.norm(y.view(y.shape)) + y)(net.conv(x))), []),
        (lambda: Net(conv_twice), []),
        (lambda: Net(lambda net, x: net.norm(net.norm(net.conv(x)))), []),
        (lambda: Net(conv_norm, norm=ActivatedNorm(4)), []),
        (lambda: Net(conv_norm, conv=StandardizedConv(3, 4, 3)), []),
        (lambda: Net(conv_norm, conv=nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))), []),
        (lambda: Net(conv_norm, norm=nn.BatchNorm2d(4, track_running_stats=False)), []),
        (lambda: Net(lambda net, x: conv_norm(net, x) * net.conv.weight.sum()), []),
        (lambda: Net(lambda net, x: conv_norm(net, x) * (1 + net.norm.bias.sum())), []),
    ],
    ids=[
        'after a convolution', 'without bias', 'without scale', 'defined in another order', 'after a linear layer',
        'with an activation of its own', 'of tokens',
        'after an activation in place', 'before a convolution', 'input used afterwards', 'input used before',
        'input of the view used afterwards',
        'shared convolution', 'shared norm', 'norm that activates', 'convolution that standardises',
        'computed weight', 'norm of the batch', 'weight used elsewhere', 'norm used elsewhere',
    ],
)  # fmt: skip
def test_a_batch_norm_is_folded_where_that_changes_nothing(net, folded):
    network = settled(net())
    assert folded_norms(network) == folded
    assert difference(TeacherEngine(channels_last=False), network, images()) < EXACT_TOLERANCE


def test_a_batch_norm_with_two_names_is_folded_at_both():
    network = Net(lambda net, x: net.norm(net.conv(x)))
    network.alias = network.norm
    fold_batch_norms_(settled(network), try_out(network, images()).pairs)
    assert type(network.norm) is type(network.alias) is nn.Identity


def test_folding_computes_in_float64():
    network = settled(Net(conv_norm, norm=nn.BatchNorm2d(4, eps=1e-12)))
    expected = copy.deepcopy(network).double()
    fold_batch_norms_(network, [Pair('conv', 'norm')])
    fold_batch_norms_(expected, [Pair('conv', 'norm')])
    assert torch.equal(network.conv.weight, expected.conv.weight.float())
    assert torch.equal(network.conv.bias, expected.conv.bias.float())


def test_a_network_that_cannot_run_in_float64_is_not_folded_and_says_so(log):
    network = settled(Net(lambda net, x: net.norm(net.conv(x.float()))))
    assert difference(TeacherEngine(), network, images()) < EXACT_TOLERANCE
    assert any(
        'Net cannot be tried out in float64, so nothing is folded; conv (Conv2d) failed: ' in text for text, _ in log
    )


def test_a_pair_that_does_more_is_named(log):
    try_out(settled(Net(conv_norm, norm=ActivatedNorm(4))), images())
    assert log == [('Teacher engine: norm (ActivatedNorm) does more than normalise, so it is not folded', logging.INFO)]


@pytest.mark.parametrize(
    ('name', 'size', 'kept'),
    [
        ('mobilenetv3_small_050', 32, 0),
        pytest.param('efficientnet_lite0', 32, 0, marks=pytest.mark.slow),
        pytest.param('resnet10t', 32, 0, marks=pytest.mark.slow),
        pytest.param('densenet121', 32, None, marks=pytest.mark.slow),
        pytest.param('levit_128s', 224, None, marks=pytest.mark.slow),
    ],
)
def test_the_batch_norms_of_timm_are_folded(name, size, kept):
    """``kept`` counts norms that stand in front of a layer, as in a pre-activation block; None where there are some."""
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        network = settled(MODELS.build(dict(type='TimmClassifier', model_name=name, num_classes=10)), size)
    folded = folded_norms(network, size)
    if kept is None:
        assert 0 < len(folded) < len(norms(network))
    else:
        assert len(folded) == len(norms(network)) - kept
    assert difference(TeacherEngine.from_config('exact'), network, images(2, size)) < EXACT_TOLERANCE
