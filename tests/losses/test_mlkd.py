import pytest
import torch
from torch.autograd import gradcheck

from r2kd_mm.losses import MLKDLoss, kl_divergence, multi_level_kd


def levels(student, teacher, temperature, samples, classes):
    """The three levels by loops; ``samples`` and ``classes`` are the ones that count."""
    p, q = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    instance = sum((q[i] * (q[i] / p[i]).log()).sum() for i in samples) * temperature**2 / len(p)
    batch = sum((p[i] @ p[j] - q[i] @ q[j]) ** 2 for i in samples for j in range(len(p))) / len(p)
    relation = (
        sum((p[:, c] @ p[:, d] - q[:, c] @ q[:, d]) ** 2 for c in classes for d in range(p.shape[1])) / p.shape[1]
    )
    return instance, batch, relation


def test_sums_three_levels_over_the_temperatures():
    student, teacher = torch.randn(2, 5, 4, dtype=torch.float64)
    expected = 0.0
    for temperature in (1.5, 4.0):
        instance, batch, relation = levels(student, teacher, temperature, range(5), range(4))
        expected = expected + 2 * instance + 3 * batch + 5 * relation
    torch.testing.assert_close(multi_level_kd(student, teacher, (1.5, 4.0), 2, 3, 5, quantile=None), expected)


def test_the_masks_keep_the_samples_and_classes_that_the_teacher_is_less_sure_of():
    student, teacher = torch.randn(2, 5, 4, dtype=torch.float64)
    prob = teacher.softmax(1)
    samples = prob.amax(1).argsort()[:3].tolist()  # up to and including the median of 5
    classes = prob.sum(0).argsort()[:2].tolist()  # below the median of 4
    expected = sum(levels(student, teacher, 2.0, samples, classes))
    torch.testing.assert_close(multi_level_kd(student, teacher, (2.0,)), expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_masks_tell_sure_samples_apart_whose_probability_rounds_to_one(dtype):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(8, 8, dtype=torch.float64, generator=generator)
    # from 1 - 1.7e-8 to 1 - 7e-18, the class of each sample its own
    teacher = torch.diag(torch.linspace(18, 40, 8, dtype=torch.float64)) + torch.arange(8.0).sin()
    kept = range(4)  # up to the median: the less sure half
    expected = sum(levels(student, teacher, 4.0, kept, range(0)))
    loss = multi_level_kd(student.to(dtype), teacher.to(dtype), (4.0,), class_weight=0)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_masks_tell_classes_apart_whose_sums_round_to_one(dtype):
    student = torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    teacher = torch.diag(torch.linspace(20, 30, 8, dtype=torch.float64))
    classes = teacher.softmax(1).sum(0).argsort()[:4].tolist()
    expected = sum(levels(student, teacher, 4.0, range(0), classes))
    loss = multi_level_kd(student.to(dtype), teacher.to(dtype), (4.0,), instance_weight=0, batch_weight=0)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)


def test_masked_samples_get_no_gradient_from_the_instance_level():
    student, teacher = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    MLKDLoss(batch_weight=0, class_weight=0)(student, teacher).backward()
    sure = teacher.softmax(1).amax(1)
    assert ((student.grad.abs().sum(1) == 0) == (sure > sure.median())).sum() >= 5
    assert (student.grad.abs().sum(1) == 0).sum() == 3


def test_the_instance_level_alone_is_kl_at_the_five_temperatures():
    student, teacher = torch.randn(2, 6, 4, dtype=torch.float64)
    loss = MLKDLoss(batch_weight=0, class_weight=0, quantile=None)(student, teacher)
    torch.testing.assert_close(loss, sum(kl_divergence(student, teacher, float(t)) for t in (2, 3, 4, 5, 6)))


def test_zero_for_equal_logits():
    logits = torch.randn(6, 4)
    assert abs(multi_level_kd(logits, logits).item()) < 1e-5


def test_gradcheck():
    teacher = torch.randn(4, 3, dtype=torch.float64)
    assert gradcheck(lambda x: multi_level_kd(x, teacher), (torch.randn_like(teacher).requires_grad_(),))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(temperatures=()), 'at least one number'),
        (dict(temperatures=(2.0, 0.0)), 'temperature must be a positive finite number, got 0.0'),
        (dict(quantile=1.5), 'quantile must be between 0 and 1, .* got 1.5'),
        (dict(class_weight=-1), 'class_weight must be a finite number of 0 or more, got -1'),
    ],
)
def test_wrong_settings_are_named_when_the_loss_is_built(settings, message):
    with pytest.raises(ValueError, match=message):
        MLKDLoss(**settings)
