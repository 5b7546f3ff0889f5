import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from r2kd_mm.pruning import RandomPruner
from r2kd_mm.registry import MODELS


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Flatten(), nn.Linear(7, 11))


def zeros(network):
    return {index: network[index].weight == 0 for index in (0, 3)}


@pytest.mark.parametrize('amount', [0.1, 0.5, 0.77])
def test_removes_as_many_weights_of_each_layer_as_torch_does(network, amount):
    pruned, report = MODELS.build(dict(type='RandomPruner', amount=amount))(network)
    for index, (name, (count, _)) in zip((0, 3), report.layers.items()):
        layer = prune.random_unstructured(nn.Linear(1, network[index].weight.numel()), 'weight', amount)
        assert count == int((layer.weight_mask == 0).sum()), name
        assert count == int(zeros(pruned)[index].sum())
        kept = ~zeros(pruned)[index]
        assert torch.equal(pruned[index].weight[kept], network[index].weight[kept])


def test_global_scope_draws_over_all_layers_together(network):
    _, report = RandomPruner(amount=0.5, scope='global')(network)
    assert report.pruned == round(0.5 * (189 + 77))
    assert report.layers['0.weight'][0] != round(0.5 * 189)


def test_does_not_go_by_magnitude(network):
    pruned, _ = RandomPruner(amount=0.5)(network)
    before = network[0].weight.abs()
    gone = zeros(pruned)[0]
    assert before[gone].max() > before[~gone].median()


def test_the_seed_decides_and_the_generator_of_the_run_is_left_alone(network):
    state = torch.get_rng_state()
    first, again, other = (RandomPruner(0.3, seed=seed)(network)[0] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_a_larger_amount_removes_the_same_weights_and_more(network):
    few, many = (RandomPruner(amount)(network)[0] for amount in (0.2, 0.6))
    assert zeros(many)[0][zeros(few)[0]].all()


def test_refuses_wrong_arguments():
    with pytest.raises(TypeError, match="seed must be an integer, got 'a'"):
        RandomPruner(seed='a')
    with pytest.raises(ValueError, match='amount is the fraction of weights .* got 1.0'):
        RandomPruner(amount=1.0)
    with pytest.raises(ValueError, match="scope must be one of .* got 'unit'"):
        RandomPruner(scope='unit')
    with pytest.raises(ValueError, match='ReLU has no Conv2d and no Linear layer'):
        RandomPruner()(nn.ReLU())
