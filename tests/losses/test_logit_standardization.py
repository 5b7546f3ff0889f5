import pytest
import torch
from mmrazor.models.losses import KLDivergence

from r2kd_mm.losses import CMKDLoss, DKDLoss, KLDivergenceLoss, LogitStandardization


def test_the_wrapped_loss_sees_the_z_scores_of_the_paper():
    student, teacher = 5 * torch.randn(2, 6, 10, dtype=torch.float64)

    def z_score(x):
        return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-7)

    loss = LogitStandardization(KLDivergenceLoss(temperature=2.0))
    expected = KLDivergenceLoss(temperature=2.0)(z_score(student), z_score(teacher))
    torch.testing.assert_close(loss(student, teacher), expected, rtol=1e-6, atol=0)


def test_shift_and_positive_scale_of_a_row_do_not_matter():
    student, teacher = torch.randn(2, 6, 10, dtype=torch.float64)
    loss = LogitStandardization(KLDivergenceLoss())
    changed = (0.1 + torch.rand(6, 1, dtype=torch.float64)) * student + torch.randn(6, 1)
    torch.testing.assert_close(loss(changed, teacher), loss(student, teacher))


def test_builds_what_it_wraps_from_a_config():
    loss = LogitStandardization(dict(type='r2kd_mm.DKDLoss', beta=2.0))
    assert isinstance(loss.loss, DKDLoss)
    assert loss.loss.beta == 2.0


@pytest.mark.parametrize(
    ('wrapped', 'needs_target'),
    [
        (KLDivergenceLoss(), False),
        (DKDLoss(), True),
        (CMKDLoss(), False),
        (CMKDLoss(difficulty='loss'), True),
        (KLDivergence(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_needs_the_target_if_the_wrapped_loss_does(wrapped, needs_target):
    loss = LogitStandardization(wrapped)
    assert loss.needs_target is needs_target
    assert loss(torch.randn(4, 5), torch.randn(4, 5), torch.arange(4)).isfinite()


def test_anything_else_is_an_error():
    with pytest.raises(TypeError, match='a module or the config of one, got str'):
        LogitStandardization('KLDivergenceLoss')
