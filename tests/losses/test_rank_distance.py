import numpy as np
import pytest
import scipy.stats
import torch

from r2kd_mm.functional.ranking import ESTIMATORS
from r2kd_mm.losses import RankDistanceLoss, rank_distance


@pytest.mark.parametrize('case', range(4))
def test_matches_the_released_code(case, reference_dir):
    stored = np.load(reference_dir / 'r2kd_losses.npz')
    student, teacher = (torch.from_numpy(stored[f'case{case}/{who}_logits']) for who in ('student', 'teacher'))
    weight = stored[f'case{case}/rank_weight'].item()
    loss = RankDistanceLoss(weight, estimator='hard')(student, teacher)
    assert loss.item() == pytest.approx(stored[f'case{case}/rank_loss'].item(), abs=1e-5)
    assert rank_distance(student, teacher, 'hard').item() == pytest.approx(
        stored[f'case{case}/rank_distance'].item(), abs=1e-5
    )


@pytest.mark.parametrize('estimator', ['hard', 'blackbox'])
def test_exact_estimators_agree_with_scipy_ties_included(estimator):
    student, teacher = torch.randint(0, 6, (2, 9, 15)).double()
    expected = np.mean([1 - scipy.stats.spearmanr(a, b).statistic for a, b in zip(student.numpy(), teacher.numpy())])
    assert rank_distance(student, teacher, estimator).item() == pytest.approx(expected, rel=1e-12)
    assert RankDistanceLoss(3.0, estimator)(student, teacher).item() == pytest.approx(3 * expected, rel=1e-12)


@pytest.mark.parametrize('estimator', sorted(ESTIMATORS))
def test_zero_for_the_same_order_and_two_for_the_reverse(estimator):
    # Evenly spaced, so that even a soft rank is a multiple of the rank.
    logits = torch.linspace(-3, 5, 7, dtype=torch.float64)[torch.randperm(7)][None]
    smoothing = {} if estimator == 'hard' else dict(smoothing=0.01)
    assert rank_distance(logits, logits.exp(), estimator, **smoothing).item() == pytest.approx(0, abs=1e-9)
    assert rank_distance(logits, -logits.exp(), estimator, **smoothing).item() == pytest.approx(2, abs=1e-9)


def test_hard_ranks_train_nothing():
    assert not rank_distance(torch.randn(2, 5, requires_grad=True), torch.randn(2, 5), 'hard').requires_grad


def test_the_default_estimator_trains():
    student = torch.randn(2, 5, requires_grad=True)
    RankDistanceLoss()(student, torch.randn(2, 5)).backward()
    assert (student.grad.abs().sum(dim=1) > 1e-3).all()


def test_any_increasing_map_of_the_teacher_and_a_softmax_scale_of_the_student_change_nothing():
    student, teacher = torch.randn(2, 4, 9, dtype=torch.float64)
    expected = rank_distance(student, teacher)
    torch.testing.assert_close(rank_distance(student, teacher.exp() + 2), expected)
    torch.testing.assert_close(rank_distance(student / 4 - 7, teacher), expected)


def test_logits_that_a_softmax_would_tie_are_distinguished():
    logits = torch.tensor([[0.0, -1000.0, -2000.0, -3000.0]])
    other = torch.tensor([[0.0, -3000.0, -2000.0, -1000.0]])
    assert rank_distance(logits, other, 'hard').item() == pytest.approx(1 - (1 - 6 * 8 / (4 * 15)))


def test_wrong_settings_are_named_when_the_loss_is_built():
    with pytest.raises(ValueError, match=r"estimator must be one of \['blackbox', .*\], got 'soft'"):
        RankDistanceLoss(estimator='soft')
    with pytest.raises(ValueError, match='smoothing must be a positive finite number, got 0'):
        RankDistanceLoss(smoothing=0)
