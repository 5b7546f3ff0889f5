import math

import pytest
import torch

from r2kd_mm.functional.correlation import pearson
from r2kd_mm.functional.standardization import standardize
from r2kd_mm.losses import DIFFICULTIES, CMKDLoss, correlation_matching, rank_distance


def value_distance(student, teacher, dim=1):
    p, q = ((standardize(x, 1) / 4).softmax(1) for x in (student, teacher))
    return (1 - pearson(p, q, dim)).mean()


def test_an_easy_sample_is_matched_in_value_and_a_hard_one_in_rank(monkeypatch):
    student, teacher = torch.randn(2, 5, 8, dtype=torch.float64)
    for hardness, expected in ((0.0, value_distance(student, teacher)), (1.0, rank_distance(student, teacher))):
        monkeypatch.setitem(DIFFICULTIES, 'entropy', lambda s, t, y, h=hardness: s.new_full((len(s),), h))
        torch.testing.assert_close(correlation_matching(student, teacher), expected)


def test_the_two_weights_of_a_sample_sum_to_one(monkeypatch):
    student, teacher = torch.randn(2, 2, 8, dtype=torch.float64)
    monkeypatch.setitem(DIFFICULTIES, 'entropy', lambda s, t, y: torch.tensor([0.25, 0.5], dtype=s.dtype))
    expected = (
        sum(
            (1 - h) * value_distance(student[[i]], teacher[[i]]) + h * rank_distance(student[[i]], teacher[[i]])
            for i, h in enumerate((0.25, 0.5))
        )
        / 2
    )
    torch.testing.assert_close(correlation_matching(student, teacher), expected)


def test_columns_are_added_with_the_mean_value_weight(monkeypatch):
    student, teacher = torch.randn(2, 6, 8, dtype=torch.float64)
    monkeypatch.setitem(DIFFICULTIES, 'entropy', lambda s, t, y: torch.linspace(0, 1, 6, dtype=s.dtype))
    added = correlation_matching(student, teacher, batch_wise=True) - correlation_matching(student, teacher)
    torch.testing.assert_close(added, 0.5 * value_distance(student, teacher, dim=0))


@pytest.mark.parametrize('measure', sorted(DIFFICULTIES))
def test_measures_lie_between_zero_and_one(measure):
    for std in (0.0, 1.0, 1e4):
        student, teacher = std * torch.randn(2, 50, 7)
        hardness = DIFFICULTIES[measure](student, teacher, torch.randint(7, (50,)))
        assert hardness.shape == (50,)
        assert ((hardness >= 0) & (hardness <= 1 + 1e-6)).all()


def test_measures_by_hand():
    sure, unsure, torn = torch.tensor([[[1e4, 0, 0, 0]], [[0.0, 0, 0, 0]], [[1e4, 1e4, 0, 0]]])
    first = torch.tensor([0])
    assert DIFFICULTIES['entropy'](unsure, sure, None).item() == 0
    assert DIFFICULTIES['entropy'](sure, unsure, None).item() == pytest.approx(1)
    assert DIFFICULTIES['entropy'](sure, torn, None).item() == pytest.approx(math.log(2) / math.log(4))
    assert DIFFICULTIES['disagreement'](sure, torn, None).item() == pytest.approx(1 / 2)
    assert DIFFICULTIES['loss'](torn, sure, first).item() == pytest.approx(1 / 2)
    assert DIFFICULTIES['loss'](sure, torn, first).item() == 0


@pytest.mark.parametrize('measure', sorted(DIFFICULTIES))
def test_the_weights_pass_no_gradient(measure, monkeypatch):
    student, teacher = torch.randn(2, 5, 8)
    target = torch.arange(5)
    student.requires_grad_()
    weights = DIFFICULTIES[measure](student.detach() / 4, teacher / 4, target)
    correlation_matching(student, teacher, target, difficulty=measure).backward()
    learned = student.grad.clone()
    student.grad = None
    monkeypatch.setitem(DIFFICULTIES, measure, lambda s, t, y: weights)
    correlation_matching(student, teacher, target, difficulty=measure).backward()
    torch.testing.assert_close(learned, student.grad)


@pytest.mark.parametrize(('difficulty', 'needs_target'), [('entropy', False), ('disagreement', False), ('loss', True)])
def test_needs_the_target_for_the_loss_measure_alone(difficulty, needs_target):
    assert CMKDLoss(difficulty=difficulty).needs_target is needs_target


def test_a_missing_target_and_unknown_names_are_errors():
    with pytest.raises(ValueError, match='pass target'):
        CMKDLoss(difficulty='loss')(torch.randn(2, 3), torch.randn(2, 3))
    with pytest.raises(ValueError, match=r"one of \['disagreement', 'entropy', 'loss'\], got 'hard'"):
        CMKDLoss(difficulty='hard')
    with pytest.raises(ValueError, match="estimator must be one of .* got 'soft'"):
        CMKDLoss(estimator='soft')


def test_says_that_it_is_a_reconstruction():
    assert 'reconstruction' in CMKDLoss.__doc__
    assert 'reconstruction' in correlation_matching.__doc__
