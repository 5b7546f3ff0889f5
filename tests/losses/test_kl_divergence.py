import math

import pytest
import scipy.stats
import torch
from mmrazor.models.losses import KLDivergence
from torch.autograd import gradcheck

from r2kd_mm.losses import kl_divergence


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_is_the_mean_relative_entropy_of_scipy_times_the_squared_temperature(temperature):
    student, teacher = 3 * torch.randn(2, 6, 9, dtype=torch.float64)
    p, q = ((x / temperature).softmax(1).numpy() for x in (student, teacher))
    expected = temperature**2 * scipy.stats.entropy(q, p, axis=1).mean()
    assert kl_divergence(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_a_sure_teacher_against_a_uniform_student_by_hand():
    teacher = torch.tensor([[1000.0, 0.0, 0.0, 0.0]])
    assert kl_divergence(torch.zeros(1, 4), teacher, 1.0).item() == pytest.approx(math.log(4))


def test_gradcheck():
    teacher = torch.randn(3, 4, dtype=torch.float64)
    assert gradcheck(lambda x: kl_divergence(x, teacher, 2.0), (torch.randn_like(teacher).requires_grad_(),))


def test_agrees_with_mmrazor_in_float32_and_is_not_negative_under_autocast_as_that_is():
    student, teacher = torch.randn(2, 6, 9)
    torch.testing.assert_close(kl_divergence(student, teacher, 4.0), KLDivergence(tau=4.0)(student, teacher))
    ours, theirs = [], []
    for _ in range(10):
        teacher = torch.randn(64, 100).bfloat16()
        nearly = (teacher + 0.01 * torch.randn(64, 100)).bfloat16()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            ours.append(kl_divergence(nearly, teacher, 4.0).item())
            theirs.append(KLDivergence(tau=4.0)(nearly, teacher).item())
    assert min(theirs) < -1e-3
    assert min(ours) > -1e-6
