import numpy as np
import pytest
import torch
from torch import nn

from r2kd_mm.pruning import MagnitudePruner
from r2kd_mm.registry import MODELS


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Flatten(), nn.Linear(7, 11))
    with torch.no_grad():
        network[3].weight.mul_(10)  # so that a global choice takes mostly from the convolution
        network[1].weight.zero_()
    return network


def test_removes_the_rounded_share_of_smallest_weights_in_every_layer(network):
    pruned, report = MagnitudePruner(amount=0.1)(network)
    assert report.layers == {'0.weight': (round(0.1 * 189), 189), '3.weight': (round(0.1 * 77), 77)}
    assert report.sparsity == (19 + 8) / (189 + 77)
    for index in (0, 3):
        before, after = network[index].weight, pruned[index].weight
        removed = after == 0
        assert before[removed].abs().max() < before[~removed].abs().min()
        assert torch.equal(after[~removed], before[~removed])


def test_global_scope_chooses_over_all_layers_together(network):
    pruned, report = MagnitudePruner(amount=0.5, scope='global')(network)
    before = torch.cat([network[index].weight.abs().flatten() for index in (0, 3)])
    after = torch.cat([pruned[index].weight.flatten() for index in (0, 3)])
    assert report.pruned == round(0.5 * (189 + 77))
    assert before[after == 0].max() < before[after != 0].min()
    assert report.layers['0.weight'][0] > 0.5 * 189


def test_leaves_the_given_network_biases_and_normalisation_alone(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pruned, _ = MagnitudePruner(amount=0.9)(network)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
        if name not in ('0.weight', '3.weight'):
            assert torch.equal(pruned.state_dict()[name], before[name])
    assert list(pruned.state_dict()) == list(before)


def test_an_amount_of_zero_removes_nothing(network):
    pruned, report = MagnitudePruner(amount=0)(network)
    assert report.pruned == 0
    assert torch.equal(pruned[0].weight, network[0].weight)


@pytest.mark.parametrize('amount', [-0.1, 1, 1.5, float('nan')])
def test_refuses_an_amount_that_is_no_fraction(amount):
    with pytest.raises(ValueError, match=rf'amount is the fraction of weights .* got {amount}'):
        MODELS.build(dict(type='MagnitudePruner', amount=amount))


def test_refuses_other_wrong_arguments():
    with pytest.raises(TypeError, match="amount must be a fraction .* got '10%'"):
        MagnitudePruner(amount='10%')
    with pytest.raises(ValueError, match="scope must be one of .*'layer', 'global'.* got 'channel'"):
        MagnitudePruner(scope='channel')
    with pytest.raises(ValueError, match='ReLU has no Conv2d and no Linear layer'):
        MagnitudePruner()(nn.ReLU())


class CifarResNet20(nn.Module):
    """The authors' ResNet20 for 64x64 images, just enough to load their checkpoint and check pruning against theirs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = self._stage(16, 16), self._stage(16, 32), self._stage(32, 64)
        self.fc = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(channels: int, width: int) -> nn.Sequential:
        return nn.Sequential(*(Block(channels if index == 0 else width, width) for index in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean(dim=(2, 3)))


class Block(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stride = width // channels
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + (x if self.downsample is None else self.downsample(x))).relu()


def test_a_resnet20_is_pruned_as_numpy_prunes_it():
    network = CifarResNet20(num_classes=200).eval()
    by_hand, zeros, total = CifarResNet20(num_classes=200).eval(), 0, 0
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for value in state.values():
        if value.ndim >= 2:  # of a convolution or a linear layer
            magnitudes = np.sort(np.abs(value.numpy()), axis=None)
            count = round(0.1 * magnitudes.size)
            value[value.abs() < float(magnitudes[count])] = 0
            zeros, total = zeros + count, total + magnitudes.size
    by_hand.load_state_dict(state)

    pruned, report = MagnitudePruner(amount=0.1)(network)

    assert (report.pruned, report.total) == (zeros, total)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(pruned(images), by_hand(images))


def test_released_resnet20_has_the_authors_logits_and_zeros_after_pruning(reference_dir):
    network = CifarResNet20(num_classes=200).eval()
    checkpoint = torch.load(reference_dir / 'resnet20_tinyimagenet_cutmix.pth', map_location='cpu', weights_only=True)
    network.load_state_dict(checkpoint['model'])
    reference = np.load(reference_dir / 'resnet20_tinyimagenet_logits.npz')
    images = torch.from_numpy(reference['images'])

    pruned, report = MagnitudePruner(amount=0.1)(network)

    assert (report.pruned, report.total) == (reference['zero_weights'], reference['total_weights'])
    with torch.no_grad():
        for model, key in ((network, 'logits'), (pruned, 'pruned_logits')):
            np.testing.assert_allclose(model(images), reference[key], rtol=1e-4, atol=1e-4)
