import random
import sys

import pytest
import torch
import toys
from torch import nn
from torch.nn.utils import prune

from r2kd_mm.classifiers import num_classes
from r2kd_mm.pruning import ChannelPruner
from r2kd_mm.registry import MODELS
from r2kd_mm.zoo import build_classifier


def channels(network):
    return [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('cifar/resnet8', 32),  # residual
        ('cifar/vgg8', 32),
        ('cifar/mobilenetv2', 32),  # residual and depthwise
        ('imagenet/mobilenetv1', 64),  # depthwise
        ('cifar/shufflenetv2', 32),  # split and shuffled
    ],
)
def test_networks_of_the_zoo_get_smaller_and_keep_their_classes(name, size):
    torch.manual_seed(0)
    network = build_classifier(name).eval()
    images = torch.randn(2, 3, size, size)
    expected = network(images, mode='tensor')
    pruned, report = ChannelPruner(0.25, size)(network)
    assert pruned(images, mode='tensor').shape == expected.shape
    assert num_classes(pruned) == num_classes(network)
    assert sum(channels(pruned)) < 0.9 * sum(channels(network))
    assert all(after <= before for after, before in zip(channels(pruned), channels(network)))
    left = dict(pruned.named_parameters())
    assert report.total - report.pruned == sum(left[layer].numel() for layer in report.layers)
    assert report.done == 'gone'
    torch.testing.assert_close(network(images, mode='tensor'), expected)  # the network itself is as it was


class Plain(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 5)

    def forward(self, images, mode='tensor'):
        return self.fc(self.second(self.first(images).relu()).relu().mean(dim=(2, 3)))


def test_gives_what_the_network_gives_with_the_filters_of_smallest_norm_at_zero():
    torch.manual_seed(0)
    network = Plain().eval()
    with torch.no_grad():
        network.first.bias.zero_()
        network.second.bias.zero_()
    pruned, _ = ChannelPruner(amount=0.25)(network)
    for layer in (network.first, network.second):  # torch's oracle of the same choice
        prune.remove(prune.ln_structured(layer, 'weight', amount=0.25, n=1, dim=0), 'weight')
    assert channels(pruned) == [8 - 2, 6 - round(0.25 * 6)]
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(pruned(images), network(images))


def test_an_amount_of_zero_changes_nothing_and_a_large_one_leaves_a_channel():
    network = MODELS.build(toys.classifier()).eval()
    images, _ = toys.batch()
    whole, report = ChannelPruner(0, toys.IMAGE_SIZE)(network)
    assert report.pruned == 0
    torch.testing.assert_close(whole(images), network(images))
    least, _ = ChannelPruner(0.99, toys.IMAGE_SIZE)(network)
    assert set(channels(least)) == {1}
    assert least(images).shape == (6, toys.NUM_CLASSES)


def test_leaves_generators_recursion_limit_and_mode_alone():
    network = MODELS.build(toys.classifier())
    before = torch.get_rng_state(), random.getstate(), sys.getrecursionlimit()
    pruned, _ = ChannelPruner(0.5, toys.IMAGE_SIZE)(network)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), sys.getrecursionlimit()) == before[1:]
    assert pruned.training
    assert not hasattr(pruned, 'mutator')
    assert {type(module) for module in pruned.modules()} == {type(module) for module in network.modules()}


def test_refuses_wrong_arguments():
    with pytest.raises(ValueError, match='amount is the fraction of weights .* got 1.5'):
        ChannelPruner(1.5)
    with pytest.raises(ValueError, match="image_size is the side .* got '32x32'"):
        ChannelPruner(image_size='32x32')
    with pytest.raises(ValueError, match='ReLU has no Conv2d and no Linear layer'):
        ChannelPruner()(nn.ReLU())
    with pytest.raises(ValueError, match='begins with a Conv2d, and Linear begins with a Linear'):
        ChannelPruner()(nn.Linear(3, 5))


def test_names_the_image_size_where_the_network_cannot_be_followed():
    with pytest.raises(ValueError, match='cannot follow how the layers of Plain .* of 2 pixels.*image_size'):
        ChannelPruner(image_size=2)(Plain())


def test_says_so_where_no_channel_can_go():
    with pytest.raises(ValueError, match='Sequential has no channels that could go'):
        ChannelPruner()(nn.Sequential(nn.Conv2d(3, 5, 32), nn.Flatten()))
