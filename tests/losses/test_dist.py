import pytest
import torch
from mmrazor.models.losses import DISTLoss as MMRazorDISTLoss

from r2kd_mm.losses import DISTLoss, correlation_distance, dist


def test_is_the_weighted_sum_of_both_pearson_distances():
    student, teacher = torch.randn(2, 6, 9, dtype=torch.float64)
    inter = correlation_distance(student, teacher, 3.0, centered=True, batch_wise=False)
    intra = correlation_distance(student, teacher, 3.0, centered=True, class_wise=False)
    torch.testing.assert_close(dist(student, teacher, 3.0, 0.5, 2.5), 0.5 * inter + 2.5 * intra)


def test_the_switch_takes_out_the_squared_temperature_alone():
    student, teacher = torch.randn(2, 6, 9, dtype=torch.float64)
    scaled, plain = (DISTLoss(temperature=4.0, scale_by_temperature=on)(student, teacher) for on in (True, False))
    torch.testing.assert_close(scaled, 16 * plain)


def test_agrees_with_mmrazor_where_its_epsilon_does_not_matter():
    student, teacher = torch.randn(2, 16, 10, dtype=torch.float64)
    theirs = MMRazorDISTLoss(inter_loss_weight=2.0, intra_loss_weight=2.0, tau=1.0)(student, teacher)
    torch.testing.assert_close(dist(student, teacher, 1.0), theirs, rtol=1e-5, atol=0)


def test_peaked_logits_are_at_distance_zero_from_themselves_but_not_in_mmrazor():
    logits = 12 * torch.randn(8, 1000)
    assert abs(dist(logits, logits, 1.0).item()) < 2e-6
    assert MMRazorDISTLoss()(logits, logits) > 0.5


def test_weights_are_checked():
    with pytest.raises(ValueError, match='intra_weight must be a finite number of 0 or more, got -2'):
        DISTLoss(intra_weight=-2)
