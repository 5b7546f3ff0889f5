import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from r2kd_mm.functional.correlation import class_correlation, cosine, pearson, spearman
from r2kd_mm.functional.standardization import standardize

CORRELATIONS = pytest.mark.parametrize('correlation', [cosine, pearson])


def eisen(x, y):
    return x @ y / np.sqrt(x @ x * (y @ y))


@pytest.mark.parametrize(
    ('ours', 'oracle'),
    [
        (cosine, eisen),
        (pearson, lambda x, y: scipy.stats.pearsonr(x, y).statistic),
        (spearman, lambda x, y: scipy.stats.spearmanr(x, y).statistic),
    ],
    ids=['cosine', 'pearson', 'spearman'],
)
@pytest.mark.parametrize(
    'draw', [torch.randn, lambda *size, **kw: torch.randint(0, 4, size).to(**kw)], ids=['distinct', 'ties']
)
@pytest.mark.parametrize('dim', [0, 1, -1])
def test_agrees_with_scipy_row_by_row(ours, oracle, draw, dim):
    x, y = draw(9, 13, dtype=torch.float64), draw(9, 13, dtype=torch.float64)
    rows = zip(x.movedim(dim, -1).numpy(), y.movedim(dim, -1).numpy())
    expected = torch.tensor([oracle(a, b) for a, b in rows], dtype=torch.float64)
    torch.testing.assert_close(ours(x, y, dim), expected, rtol=0, atol=1e-12)


@CORRELATIONS
def test_eps_is_added_to_the_product_of_norms(correlation):
    x, y = torch.randn(2, 5, dtype=torch.float64)
    u, v = (x, y) if correlation is cosine else (x - x.mean(), y - y.mean())
    torch.testing.assert_close(correlation(x, y, eps=0.25), u @ v / (u.norm() * v.norm() + 0.25))


@CORRELATIONS
def test_gradients_match_finite_differences(correlation):
    x, y = (torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(correlation, (x, y))
    assert gradcheck(lambda a, b: correlation(a, b, 0, 1e-8), (x, y))


@CORRELATIONS
@pytest.mark.parametrize('dim', [0, 1])
@pytest.mark.parametrize('classes', [2, 1000])
def test_peaked_probabilities_agree_with_themselves(correlation, dim, classes):
    prob = (12 * torch.randn(8, classes)).softmax(dim=1)
    own = correlation(prob, prob, dim)
    torch.testing.assert_close(own, torch.ones_like(own), rtol=0, atol=1e-6)


@CORRELATIONS
@settings(deadline=None, max_examples=30)
@given(scale=st.floats(1e-28, 1e28), shift=st.floats(-100, 100), seed=st.integers(0, 2**31 - 1))
def test_ignores_positive_scale_and_pearson_also_a_shift(correlation, scale, shift, seed):
    x, y = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(seed))
    changed = scale * (x + shift if correlation is pearson else x)
    torch.testing.assert_close(correlation(changed, y), correlation(x, y), rtol=0, atol=1e-4)


@CORRELATIONS
def test_a_class_that_nobody_predicts_still_counts_and_has_a_bounded_gradient(correlation):
    logits = torch.randn(6, 5)
    logits[:, 2] -= 46  # probabilities near 1e-20
    student = logits.clone().requires_grad_()
    teacher = (logits + torch.randn(6, 5)).softmax(dim=1)
    column = correlation(student.softmax(dim=1), teacher, 0)[2]
    exact = correlation(logits.double().softmax(dim=1), teacher.double(), 0)[2]
    torch.testing.assert_close(column.double(), exact, rtol=0, atol=1e-5)
    column.backward()
    assert 1e-3 < student.grad.abs().max() < 1


@pytest.mark.parametrize('row', [[0.1, 0.1, 0.1], [1e4, 1e4, 1e4], [0.0, 0.0, 0.0], [1.0, 1.0 + 1e-6, 1.0]])
def test_a_constant_row_has_no_pearson_correlation_and_the_stated_gradient(row):
    x = torch.tensor(row, requires_grad=True)
    value = pearson(x, torch.tensor([1.0, 2.0, 4.0]))
    assert abs(value.item()) <= 1e-5
    value.backward()
    assert 0 < x.grad.norm() <= 1 / (x.detach().abs().max().item() or 1)


def test_a_row_that_varies_just_enough_is_exact():
    x = 1 + 2e-5 * torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert pearson(x, torch.arange(4.0)) == pytest.approx(1, abs=1e-2)


def test_a_row_of_zeros_has_no_cosine_and_a_gradient_of_at_most_one():
    x = torch.zeros(3, requires_grad=True)
    value = cosine(x, torch.tensor([3.0, 4.0, 0.0]))
    assert value == 0
    value.backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.6, 0.8, 0.0]))


def test_one_entry_is_at_cosine_one_and_pearson_zero_without_gradient():
    x = torch.tensor([[0.3], [1e-20]], requires_grad=True)
    y = torch.tensor([[0.7], [1e-3]])
    assert cosine(x, y).tolist() == [1, 1]
    assert pearson(x, y).tolist() == [0, 0]
    (cosine(x, y) + pearson(x, y)).sum().backward()
    assert x.grad.tolist() == [[0], [0]]


def test_two_classes_correlate_by_sign_without_gradient():
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], requires_grad=True)
    q = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.1, 0.9]])
    value = pearson(p, q)
    torch.testing.assert_close(value, torch.tensor([1.0, -1.0, 1.0]))
    value.sum().backward()
    assert p.grad.abs().max() < 1e-5


@CORRELATIONS
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(correlation, dtype):
    x, y = (torch.randn(4, 1000).to(dtype) for _ in range(2))
    x.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = correlation(x, y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), correlation(x.double(), y.double()), rtol=0, atol=1e-6)
    value.sum().backward()
    assert x.grad.dtype == dtype
    assert (x.grad.float().norm(dim=1) <= 1.01 / x.detach().float().std(dim=1) / math.sqrt(999)).all()


@CORRELATIONS
def test_huge_logits_are_fine(correlation):
    x = (1e4 * torch.randn(3, 10)).requires_grad_()
    correlation(x, torch.randn(3, 10)).sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad.norm(dim=1) < 1e-3).all()


def test_spearman_has_no_gradient_and_is_zero_for_a_constant_row():
    assert not spearman(torch.randn(5, requires_grad=True), torch.randn(5)).requires_grad
    assert spearman(torch.ones(4), torch.arange(4.0)) == 0


def test_standardize_gives_the_z_score():
    x = 3 + 7 * torch.randn(4, 9, dtype=torch.float64)
    for correction in (0, 1):
        expected = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=correction)
        torch.testing.assert_close(standardize(x, 1, correction), expected)


@pytest.mark.parametrize('correlation', [cosine, pearson, spearman])
def test_different_shapes_are_named(correlation):
    with pytest.raises(ValueError, match=r'one shape, got \(2, 3\) and \(3, 2\)'):
        correlation(torch.ones(2, 3), torch.ones(3, 2))


@CORRELATIONS
@pytest.mark.parametrize('eps', [0.0, -1e-8, math.nan])
def test_eps_must_be_positive(correlation, eps):
    with pytest.raises(ValueError, match=f'eps must be positive.* got {eps}'):
        correlation(torch.ones(3), torch.ones(3), eps=eps)


def test_class_correlation_equals_numpy_on_centred_logits():
    logits = torch.randn(40, 4, dtype=torch.float64)
    expected = np.corrcoef((logits - logits.mean(dim=1, keepdim=True)).numpy().T)
    assert np.allclose(class_correlation(logits).numpy(), expected)
    assert torch.allclose(class_correlation(logits + torch.randn(40, 1)), class_correlation(logits))
