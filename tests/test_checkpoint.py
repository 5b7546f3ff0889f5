import pytest
import torch

from r2kd_mm.checkpoint import select_weights

WEIGHTS = {'head.fc.weight': torch.ones(2)}


@pytest.mark.parametrize(
    'checkpoint',
    [
        WEIGHTS,
        {'model': WEIGHTS},
        {'state_dict': WEIGHTS, 'meta': {'epoch': 1}},
        {'state_dict': {'module.head.fc.weight': torch.ones(2)}},
        {'architecture.head.fc.weight': torch.ones(2), 'teacher.head.fc.weight': torch.zeros(2)},
    ],
    ids=['bare', 'model', 'runner', 'parallel', 'distilled'],
)
def test_finds_the_weights_of_the_network(checkpoint):
    weights = select_weights(checkpoint)
    assert list(weights) == ['head.fc.weight']
    assert torch.equal(weights['head.fc.weight'], torch.ones(2))


@pytest.mark.parametrize('checkpoint', [{}, {'epoch': 3}, {'model': None}, {'state_dict': {'lr': 0.1}}])
def test_refuses_what_holds_none(checkpoint):
    with pytest.raises(ValueError, match=r"holds no weights: expected \{'model': weights\}"):
        select_weights(checkpoint)
