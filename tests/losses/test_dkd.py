import math

import numpy as np
import pytest
import torch
from mmrazor.models.losses import DKDLoss as MMRazorDKDLoss
from scipy.special import softmax
from scipy.stats import entropy
from torch.autograd import gradcheck

from r2kd_mm.losses import DKDLoss, decoupled_kd


def by_definition(student, teacher, target, temperature, alpha, beta):
    total = 0.0
    for s, t, c in zip(student.double().numpy() / temperature, teacher.double().numpy() / temperature, target):
        p, q = softmax(s), softmax(t)
        total += alpha * entropy([q[c], 1 - q[c]], [p[c], 1 - p[c]])
        total += beta * entropy(softmax(np.delete(t, c)), softmax(np.delete(s, c)))
    return temperature**2 * total / len(target)


@pytest.mark.parametrize('classes', [2, 3, 10])
@pytest.mark.parametrize('std', [0.5, 3.0, 15.0])
def test_agrees_with_the_definition(classes, std):
    student, teacher = std * torch.randn(2, 12, classes, dtype=torch.float64)
    target = torch.randint(classes, (12,))
    ours = decoupled_kd(student, teacher, target, 2.0, 0.7, 3.0).item()
    assert ours == pytest.approx(by_definition(student, teacher, target, 2.0, 0.7, 3.0), rel=1e-9)
    in_float32 = decoupled_kd(student.float(), teacher.float(), target, 2.0, 0.7, 3.0).item()
    assert in_float32 == pytest.approx(ours, rel=1e-4, abs=1e-5)


def test_equal_weights_and_a_sure_teacher_give_the_kl_divergence():
    # KL = TCKD + (1 - q_c) NCKD, and 1 - q_c is 1 for a target that the teacher rules out.
    student, teacher = torch.randn(2, 5, 4, dtype=torch.float64)
    teacher[:, 0] = -200
    target = torch.zeros(5, dtype=torch.long)
    gap = teacher.log_softmax(1) - student.log_softmax(1)
    expected = (teacher.softmax(1) * gap).sum(1).mean()
    torch.testing.assert_close(decoupled_kd(student, teacher, target, 1.0, 1.0, 1.0), expected)


def test_two_classes_have_no_other_part():
    student, teacher = torch.randn(2, 6, 2, dtype=torch.float64)
    target = torch.tensor([0, 1, 0, 1, 0, 1])
    torch.testing.assert_close(
        decoupled_kd(student, teacher, target, beta=0.0), decoupled_kd(student, teacher, target, beta=100.0)
    )


def test_soft_labels_give_the_expectation_and_one_hot_labels_the_plain_loss():
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64)
    first, second = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 5, 0, 3])
    one_hot = torch.nn.functional.one_hot
    mixed = 0.3 * one_hot(first, 6).double() + 0.7 * one_hot(second, 6).double()
    expected = 0.3 * decoupled_kd(student, teacher, first) + 0.7 * decoupled_kd(student, teacher, second)
    torch.testing.assert_close(decoupled_kd(student, teacher, mixed), expected)
    torch.testing.assert_close(
        decoupled_kd(student, teacher, one_hot(first, 6).double()), decoupled_kd(student, teacher, first)
    )


def test_gradcheck():
    teacher = torch.randn(4, 5, dtype=torch.float64)
    labels = torch.rand(4, 5, dtype=torch.float64).softmax(1)
    student = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: decoupled_kd(x, teacher, labels, 2.0), (student,))


@pytest.mark.parametrize('target', [0, 1])
def test_a_student_that_is_sure_and_wrong_has_a_finite_loss_but_not_in_mmrazor(target):
    student, teacher = torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 2.0]])
    ours = decoupled_kd(student, teacher, torch.tensor([target]), 1.0, 1.0, 0.0).item()
    q = math.exp(target) / (1 + math.e + math.e**2)
    rest_of_first = 200 - math.log(2)
    log_p, log_rest = (0.0, -rest_of_first) if target == 0 else (-200.0, 0.0)
    expected = q * (math.log(q) - log_p) + (1 - q) * (math.log(1 - q) - log_rest)
    assert ours == pytest.approx(expected, rel=1e-5)
    with pytest.warns(UserWarning, match='size_average'):
        theirs = MMRazorDKDLoss(tau=1.0, alpha=1.0, beta=0.0)(student, teacher, torch.tensor([target]))
    assert not theirs.isfinite()


@pytest.mark.filterwarnings('ignore:size_average:UserWarning')
def test_agrees_with_mmrazor_on_moderate_logits():
    student, teacher = torch.randn(2, 6, 10, dtype=torch.float64)
    target = torch.randint(10, (6,))
    theirs = MMRazorDKDLoss(tau=4.0, alpha=1.0, beta=8.0)(student, teacher, target)
    torch.testing.assert_close(DKDLoss()(student, teacher, target), theirs)


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (None, 'needs the labels'),
        (torch.zeros(3, dtype=torch.long), r'class indices of shape \(4,\).*got torch.int64 of shape \(3,\)'),
        (torch.zeros(4), r'got torch.float32 of shape \(4,\)'),
        (torch.zeros(4, 5, dtype=torch.long), r'got torch.int64 of shape \(4, 5\)'),
    ],
)
def test_wrong_targets_are_named(target, message):
    with pytest.raises(ValueError, match=message):
        DKDLoss()(torch.randn(4, 5), torch.randn(4, 5), target)


def test_one_class_is_an_error():
    with pytest.raises(ValueError, match=r'at least 2 classes, got logits of shape \(4, 1\)'):
        DKDLoss()(torch.randn(4, 1), torch.randn(4, 1), torch.zeros(4, dtype=torch.long))


def test_soft_labels_that_are_no_distribution_are_refused():
    logits = torch.randn(2, 3)
    for labels in (torch.tensor([[1.0, 1, 0], [1, 0, 0]]), torch.zeros(2, 3), torch.tensor([[2.0, -1, 0]] * 2)):
        with pytest.raises(
            ValueError, match='each row of soft labels must be a distribution .*Several labels an image'
        ):
            decoupled_kd(logits, logits, labels)
