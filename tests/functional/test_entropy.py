import math

import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from r2kd_mm.functional import entropy


def test_equals_scipy_row_by_row():
    logits = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    for temperature in (0.5, 1.0, 4.0):
        expected = scipy_entropy(softmax(logits.numpy() / temperature, axis=1), axis=1)
        torch.testing.assert_close(entropy(logits, temperature), torch.from_numpy(expected))


def test_goes_from_nothing_to_log_c():
    torch.testing.assert_close(entropy(torch.zeros(3, 8)), torch.full((3,), math.log(8)))
    assert entropy(torch.tensor([1e4, 0.0, 0.0])).item() == 0


def test_an_impossible_class_does_not_count():
    torch.testing.assert_close(entropy(torch.tensor([0.0, 0.0, -math.inf])), torch.tensor(math.log(2)))


def test_has_a_gradient_where_a_class_is_certain():
    logits = torch.tensor([1e4, 0.0, 0.0], requires_grad=True)
    entropy(logits).backward()
    assert logits.grad.isfinite().all()
