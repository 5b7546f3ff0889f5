import pytest
import torch
from torch import nn

from r2kd_mm.pruning import NMPruner
from r2kd_mm.pruning.n_m import choose_in_groups
from r2kd_mm.registry import MODELS


def test_the_two_largest_of_every_four_inputs_stay():
    weight = torch.tensor([[1.0, -4.0, 2.0, 3.0, 0.5, 0.1, -0.2, 0.3], [1.0, 1.0, 1.0, 1.0, -9.0, 8.0, 0.0, 7.0]])
    expected = [[0, 1, 0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 1, 0, 0]]
    assert choose_in_groups(weight, 2, 4).int().tolist() == expected


def test_one_of_two_stays_where_that_is_asked():
    assert choose_in_groups(torch.tensor([[1.0, -2.0, 3.0, 3.0]]), 1, 2).int().tolist() == [[0, 1, 1, 0]]


def test_groups_of_a_convolution_lie_along_its_inputs_at_one_place_of_the_kernel():
    torch.manual_seed(0)
    weight = torch.randn(3, 8, 2, 2)
    mask = choose_in_groups(weight, 2, 4)
    for output in range(3):
        for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
            for start in (0, 4):
                group = weight[(output, slice(start, start + 4), *place)].abs().tolist()
                largest = sorted(range(4), key=lambda index: -group[index])[:2]
                kept = mask[(output, slice(start, start + 4), *place)].tolist()
                assert [index for index in range(4) if kept[index]] == sorted(largest)


def test_layers_whose_inputs_do_not_divide_are_left_whole():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1), nn.Flatten(), nn.Linear(6, 5)
    )
    pruned, report = MODELS.build(dict(type='NMPruner', n=2, m=4))(network)
    assert report.layers == {
        '0.weight': (0, 24),
        '1.weight': (0, 72),
        '2.weight': (24, 48),
        '4.weight': (0, 30),
    }
    assert all(torch.equal(pruned[index].weight, network[index].weight) for index in (0, 1, 4))


def test_the_amount_is_the_share_that_goes():
    assert NMPruner(2, 4).amount == 0.5
    assert NMPruner(1, 4).amount == 0.75


@pytest.mark.parametrize(
    ('numbers', 'error', 'message'),
    [
        ((4, 4), ValueError, r'1 <= n < m must hold, got n=4, m=4'),
        ((0, 4), ValueError, r'1 <= n < m must hold, got n=0, m=4'),
        ((2.0, 4), TypeError, r'n and m must be integers, .* got n=2.0, m=4'),
    ],
)
def test_refuses_wrong_arguments(numbers, error, message):
    with pytest.raises(error, match=message):
        NMPruner(*numbers)


def test_refuses_a_network_that_no_group_fits():
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1))
    with pytest.raises(ValueError, match=r'2:4 pruning needs a layer whose number of inputs .* 4; .* have \[3, 6\]'):
        NMPruner()(network)
