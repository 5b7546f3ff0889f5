import numpy as np
import pytest
import scipy.stats
import torch
from torch.autograd import gradcheck

from r2kd_mm.losses import KendallLoss, kendall_distance


def test_tends_to_the_kendall_coefficient_of_scipy():
    student, teacher = torch.randn(2, 6, 9, dtype=torch.float64)
    expected = np.mean([1 - scipy.stats.kendalltau(a, b).statistic for a, b in zip(student.numpy(), teacher.numpy())])
    assert kendall_distance(student, teacher, smoothing=1e-5).item() == pytest.approx(expected, rel=1e-9)


def test_zero_for_the_same_order_two_for_the_reverse_one_for_ties():
    logits = torch.tensor([[1.0, -2.0, 0.5, 9.0]])
    assert kendall_distance(logits, logits.exp(), 1e-3).item() == pytest.approx(0, abs=1e-6)
    assert kendall_distance(logits, -logits, 1e-3).item() == pytest.approx(2, abs=1e-6)
    assert kendall_distance(logits, torch.zeros(1, 4), 1e-3).item() == 1
    assert kendall_distance(logits[:, :1], logits[:, :1]).item() == 1


def test_shift_and_positive_scale_of_the_student_do_not_matter():
    student, teacher = torch.randn(2, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(kendall_distance(3 * student - 8, teacher), kendall_distance(student, teacher))


def test_gradcheck():
    teacher = torch.randn(3, 5, dtype=torch.float64)
    assert gradcheck(lambda x: kendall_distance(x, teacher), (torch.randn_like(teacher).requires_grad_(),))


def test_smoothing_is_checked():
    with pytest.raises(ValueError, match='smoothing must be a positive finite number, got 0'):
        KendallLoss(smoothing=0)
