import pytest
import torch
from torch import nn

from r2kd_mm.pruning import MagnitudePruner, NMPruner, PruningReport, RandomPruner
from r2kd_mm.pruning.weights import apply_masks_, choose_weights, prunable_weights


def test_a_shared_weight_is_pruned_once():
    layer = nn.Linear(10, 10)
    assert list(prunable_weights(nn.Sequential(layer, layer))) == ['0.weight']


@pytest.mark.parametrize('norm', [nn.utils.parametrizations.weight_norm, nn.utils.spectral_norm])
@pytest.mark.parametrize(
    'pruner', [MagnitudePruner(0.5), RandomPruner(0.5), NMPruner(2, 4)], ids=lambda p: type(p).__name__
)
def test_a_weight_that_is_computed_is_refused_instead_of_pruned_in_vain(norm, pruner):
    network = nn.Sequential(nn.Linear(4, 4), norm(nn.Linear(4, 4)))
    with pytest.raises(
        ValueError, match='the weight of 1 is computed from other parameters, .*remove_parametrizations'
    ):
        pruner(network)


def test_choice_and_application_stand_alone():
    weights = {'w': nn.Parameter(torch.tensor([[3.0, -1.0], [0.5, -2.0]]))}
    masks = choose_weights({'w': weights['w'].detach()}, amount=0.5)
    assert masks['w'].tolist() == [[True, False], [False, True]]
    assert apply_masks_(weights, masks).layers == {'w': (2, 4)}
    assert weights['w'].tolist() == [[3.0, 0.0], [0.0, -2.0]]


def test_report_prints_a_line_a_layer_and_the_sum():
    lines = str(PruningReport({'0.weight': (19, 189), '3.weight': (8, 77)}, 'gone')).splitlines()
    assert [line.split()[0] for line in lines] == ['0.weight', '3.weight', 'all']
    assert lines[0].endswith('19 of          189 gone   10.05 %')
    assert lines[-1].endswith('27 of          266 gone   10.15 %')
