import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from r2kd_mm.functional import ranking
from r2kd_mm.functional.correlation import pearson, spearman
from r2kd_mm.functional.ranking import ESTIMATORS, hard_rank, soft_kendall, soft_rank
from r2kd_mm.functional.standardization import standardize

SOFT = pytest.mark.parametrize('estimator', sorted(set(ESTIMATORS) - {'hard'}))
SMALL_SLICES = pytest.mark.parametrize('elements', [1, 12, 70, 2**20], ids='slice{}'.format)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize('dim', [0, 1, 2])
def test_hard_rank_is_the_average_rank_of_scipy(dtype, dim):
    x = torch.randint(-3, 4, (3, 8, 5)).to(dtype)
    ranks = hard_rank(x, dim)
    assert ranks.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_array_equal(ranks, scipy.stats.rankdata(x.double(), axis=dim))


def test_hard_rank_has_no_gradient():
    assert not hard_rank(torch.randn(3, requires_grad=True)).requires_grad


@SOFT
@pytest.mark.parametrize('dim', [0, 1])
def test_soft_rank_tends_to_the_hard_rank_ties_included(estimator, dim):
    x = torch.tensor([[3.0, -1.0, 0.5, 0.5, 9.0], [0.0, 2.0, 2.0, 2.0, -4.0]], dtype=torch.float64)
    x = x if dim == 1 else x.T
    torch.testing.assert_close(soft_rank(x, dim, estimator, 1e-4), hard_rank(x, dim), rtol=0, atol=1e-6)


@SOFT
@settings(deadline=None, max_examples=25)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e2, 1e2), seed=st.integers(0, 2**31 - 1))
def test_soft_rank_ignores_shift_and_positive_scale_and_follows_permutations(estimator, scale, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 7, dtype=torch.float64, generator=generator)
    order = torch.randperm(7, generator=generator)
    ranks = soft_rank(x, 1, estimator)
    torch.testing.assert_close(soft_rank(scale * x + shift, 1, estimator), ranks, rtol=0, atol=1e-6)
    torch.testing.assert_close(soft_rank(x[:, order], 1, estimator), ranks[:, order])


@SOFT
def test_soft_rank_keeps_the_order_and_the_sum_of_ranks(estimator):
    x = torch.randn(20, 30, dtype=torch.float64)
    ranks = soft_rank(x, 1, estimator)
    torch.testing.assert_close(ranks.sum(1), torch.full((20,), 30 * 31 / 2, dtype=torch.float64))
    assert (ranks.gather(1, x.argsort(1)).diff() >= -1e-9).all()


@SOFT
def test_a_constant_row_shares_the_middle_rank_with_a_gradient_of_moderate_size(estimator):
    for value in (0.0, 0.25, -1e4):
        x = torch.full((1, 6), value, requires_grad=True)
        ranks = soft_rank(x, 1, estimator)
        torch.testing.assert_close(ranks, torch.full((1, 6), 3.5))
        ranks.backward(torch.arange(6.0)[None])
        # Slopes per entry: 6 / (4 * 0.1) for the sigmoid, less for the others; times a gradient of norm sqrt(55).
        assert x.grad.norm() <= 15 * math.sqrt(55) / (abs(value) or 1)


@pytest.mark.parametrize('estimator', ['sigmoid', 'permutahedron'])
@pytest.mark.parametrize('smoothing', [0.1, 0.7, 3.0])
def test_smooth_estimators_pass_gradcheck(estimator, smoothing):
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda a: soft_rank(a, 1, estimator, smoothing), (x,))


@SMALL_SLICES
def test_sigmoid_rank_is_the_sum_of_pairwise_sigmoids_however_it_is_sliced(elements, monkeypatch):
    monkeypatch.setattr(ranking, '_SLICE_ELEMENTS_CPU', elements)
    rows = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(5, 6, dtype=torch.float64)
    expected = 0.5 + ((rows[:, :, None] - rows[:, None, :]) / 0.3).sigmoid().sum(2)
    ranks = ranking.sigmoid_rank(rows, 0.3)
    torch.testing.assert_close(ranks, expected)
    (ours,) = torch.autograd.grad(ranks, rows, cotangent)
    (theirs,) = torch.autograd.grad(expected, rows, cotangent)
    torch.testing.assert_close(ours, theirs)


def test_permutahedron_rank_is_the_nearest_point_of_the_permutahedron():
    # By least squares over the convex combinations of all 24 permutations.
    x = torch.tensor([[0.9, -0.3, 0.1, 0.2]], dtype=torch.float64)
    vertices = np.array(list(itertools.permutations((1, 2, 3, 4))))
    goal = (x * math.sqrt(15 / 12) / 0.4).numpy()[0]
    weight = 1e4  # of the constraint that the combination sums to 1
    mixture, _ = scipy.optimize.nnls(np.vstack([vertices.T, weight * np.ones(24)]), np.append(goal, weight))
    nearest = torch.tensor(mixture @ vertices)[None]
    torch.testing.assert_close(ranking.permutahedron_rank(x, 0.4), nearest, rtol=0, atol=1e-4)


def test_permutahedron_rank_is_a_shift_where_smoothing_is_large():
    rows = torch.randn(2, 5, dtype=torch.float64)
    scaled = rows * math.sqrt(24 / 12) / 50
    expected = scaled - scaled.mean(1, keepdim=True) + 3
    torch.testing.assert_close(ranking.permutahedron_rank(rows, 50.0), expected)


def test_blackbox_has_the_exact_value_and_the_difference_quotient_as_gradient():
    rows = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(4, 9, dtype=torch.float64)
    cotangent[2] = 0
    ranks = ranking.blackbox_rank(rows, 0.5)
    np.testing.assert_array_equal(ranks.detach(), scipy.stats.rankdata(rows.detach(), axis=1))
    ranks.backward(cotangent)
    for row, grad, ours in zip(rows.detach().numpy(), cotangent.numpy(), rows.grad.numpy()):
        if not grad.any():
            assert not ours.any()
            continue
        lam = 0.5 / np.sqrt((grad**2).mean())
        np.testing.assert_allclose(ours, (scipy.stats.rankdata(row + lam * grad) - scipy.stats.rankdata(row)) / lam)


@SOFT
@pytest.mark.parametrize('classes', [10, 100, 1000])
def test_twenty_plain_steps_raise_the_spearman_correlation(estimator, classes):
    student, teacher = torch.randn(2, 8, classes)
    before = spearman(student, teacher)
    goal = hard_rank(teacher)
    for _ in range(20):
        student.requires_grad_()
        (grad,) = torch.autograd.grad(pearson(soft_rank(student, 1, estimator), goal).sum(), student)
        student = (student + 0.2 * classes * grad).detach()
    assert (spearman(student, teacher) - before).min() > 0.2


@SOFT
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_ranked_in_float32(estimator, dtype):
    x = torch.randn(4, 50).to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        ranks = soft_rank(x, 1, estimator)
        ranks.square().sum().backward()
    assert ranks.dtype == torch.float32
    wide = x.detach().float().requires_grad_()
    expected = soft_rank(wide, 1, estimator)
    expected.square().sum().backward()
    torch.testing.assert_close(ranks, expected)
    torch.testing.assert_close(x.grad, wide.grad.to(dtype))


@SOFT
@pytest.mark.parametrize('shape', [(1, 1), (3, 1), (1, 2)])
def test_one_or_two_classes(estimator, shape):
    x = torch.randn(shape, requires_grad=True)
    ranks = soft_rank(x, 1, estimator, 0.01)
    torch.testing.assert_close(ranks, hard_rank(x, 1))
    ranks.sum().backward()
    assert x.grad.abs().max() < 1e-3


@SMALL_SLICES
def test_soft_kendall_agrees_with_scipy_and_with_autograd(elements, monkeypatch):
    monkeypatch.setattr(ranking, '_SLICE_ELEMENTS_CPU', elements)
    x, y = torch.randn(2, 5, 6, dtype=torch.float64)
    expected = [scipy.stats.kendalltau(a, b).statistic for a, b in zip(x.numpy(), y.numpy())]
    torch.testing.assert_close(soft_kendall(x, y, 1e-5), torch.tensor(expected, dtype=torch.float64))
    assert gradcheck(lambda a: soft_kendall(a, y, 0.8), (x.requires_grad_(),))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(estimator='soft'), r"one of \['blackbox', 'hard', 'permutahedron', 'sigmoid'\], got 'soft'"),
        (dict(estimator='sigmoid', smoothing=0), 'smoothing must be a positive finite number, got 0'),
        (dict(estimator='blackbox', smoothing=-1.5), 'got -1.5'),
        (dict(estimator='permutahedron', smoothing=math.nan), 'got nan'),
        (dict(estimator='hard', smoothing=0.1), "'hard' has nothing to smooth, got smoothing=0.1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        soft_rank(torch.randn(2, 3), **arguments)


def test_soft_rank_standardises_rows():
    x = torch.randn(3, 8, dtype=torch.float64)
    torch.testing.assert_close(soft_rank(x, 1, 'sigmoid', 0.2), ranking.sigmoid_rank(standardize(x, 1), 0.2))


@pytest.mark.skipif(not os.access('/proc/self/clear_refs', os.W_OK), reason='needs the resettable memory peak of Linux')
@pytest.mark.parametrize(
    'rank',
    [*(lambda x, y, name=name: soft_rank(x, 1, name) for name in sorted(set(ESTIMATORS) - {'hard'})), soft_kendall],
    ids=[*sorted(set(ESTIMATORS) - {'hard'}), 'kendall'],
)
@pytest.mark.slow
def test_needs_less_than_256_mib_for_256_rows_of_1000_classes(rank):
    x, y = torch.randn(2, 256, 1000)
    x.requires_grad_()

    def resident_mib(field):
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    Path('/proc/self/clear_refs').write_text('5')  # the peak becomes what is resident now
    before = resident_mib('VmRSS')
    rank(x, y).sum().backward()
    assert resident_mib('VmHWM') - before < 256
