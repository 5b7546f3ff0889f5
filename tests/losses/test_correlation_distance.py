import numpy as np
import pytest
import scipy.stats
import torch
from torch.autograd import gradcheck

from r2kd_mm.losses import CorrelationDistanceLoss, correlation_distance


@pytest.mark.parametrize('case', range(4))
def test_matches_the_released_code(case, reference_dir):
    stored = np.load(reference_dir / 'r2kd_losses.npz')
    ours = {key.split('/')[1]: torch.from_numpy(stored[key]) for key in stored if key.startswith(f'case{case}/')}
    student, teacher = ours['student_logits'].requires_grad_(), ours['teacher_logits']
    temperature = ours['temperature'].item()
    loss = CorrelationDistanceLoss(temperature, ours['value_weight'].item(), eps=1e-8)(student, teacher)
    loss.backward()
    torch.testing.assert_close(loss, ours['value_loss'], rtol=1e-9, atol=0)
    torch.testing.assert_close(student.grad, ours['value_grad'], rtol=1e-9, atol=1e-12)
    for switches, key in ((dict(batch_wise=False), 'row_distance'), (dict(class_wise=False), 'col_distance')):
        distance = correlation_distance(student, teacher, temperature, eps=1e-8, **switches) / temperature**2
        torch.testing.assert_close(distance, ours[key], rtol=1e-9, atol=0)


def in_numpy(student, teacher, temperature, eps):
    """The mean of 1 - cosine over the rows, and over the columns, of the class probabilities."""
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum(1, keepdims=True) for x in (student, teacher))
    distances = []
    for axis in (1, 0):
        norms = np.sqrt((p**2).sum(axis)) * np.sqrt((q**2).sum(axis))
        distances.append((1 - (p * q).sum(axis) / (norms + eps)).mean())
    return distances


@pytest.mark.parametrize('eps', [None, 1e-8])
@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_agrees_with_the_equation_in_numpy_and_its_difference_quotients(temperature, eps):
    student, teacher = 3 * torch.randn(2, 4, 6, dtype=torch.float64)

    def total(logits):
        return 2 * temperature**2 * sum(in_numpy(logits, teacher.numpy(), temperature, eps or 0))

    rows, columns = in_numpy(student.numpy(), teacher.numpy(), temperature, eps or 0)
    for switches, expected in ((dict(batch_wise=False), rows), (dict(class_wise=False), columns)):
        distance = correlation_distance(student, teacher, temperature, eps=eps, **switches)
        assert distance.item() == pytest.approx(temperature**2 * expected, rel=1e-9)
    loss = CorrelationDistanceLoss(temperature, 2.0, eps=eps)(student.requires_grad_(), teacher)
    loss.backward()
    given = student.detach().numpy()
    assert loss.item() == pytest.approx(total(given), rel=1e-9)
    steps = 1e-6 * np.eye(given.size).reshape(-1, *given.shape)
    quotients = [(total(given + step) - total(given - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(student.grad.flatten(), quotients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_centered_agrees_with_scipy(temperature):
    student, teacher = 3 * torch.randn(2, 7, 11, dtype=torch.float64)
    p, q = ((x / temperature).softmax(1).numpy() for x in (student, teacher))
    rows = np.mean([1 - scipy.stats.pearsonr(a, b).statistic for a, b in zip(p, q)])
    columns = np.mean([1 - scipy.stats.pearsonr(a, b).statistic for a, b in zip(p.T, q.T)])
    loss = correlation_distance(student, teacher, temperature, centered=True)
    assert loss.item() == pytest.approx(temperature**2 * (rows + columns), rel=1e-12)


def test_two_samples_by_hand():
    # Probabilities (3/4, 1/4) and (1/4, 3/4) against their mirror images: every cosine is (2 * 3/16) / (10/16) = 3/5.
    student = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log()
    assert correlation_distance(student, student.flip(0), temperature=1.0).item() == pytest.approx(2 * (1 - 3 / 5))
    assert correlation_distance(student, student.flip(0), 1.0, centered=True).item() == pytest.approx(2 * 2)


@pytest.mark.parametrize(
    'switches', [dict(), dict(centered=True), dict(class_wise=False), dict(batch_wise=False), dict(eps=1e-8)], ids=str
)
def test_gradcheck(switches):
    teacher = torch.randn(4, 5, dtype=torch.float64)
    student = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: correlation_distance(x, teacher, 2.0, **switches), (student,))


@pytest.mark.parametrize('centered', [False, True])
@pytest.mark.parametrize('std', [0.1, 1.0, 12.0, 1e4])
def test_logits_are_at_distance_zero_from_themselves_up_to_a_shift_of_each_row(centered, std):
    logits = std * torch.randn(8, 1000)
    assert abs(correlation_distance(logits, logits, temperature=1.0, centered=centered).item()) < 1e-6
    shifted = correlation_distance(logits.double(), logits.double() + torch.randn(8, 1), 1.0, centered=centered)
    assert abs(shifted.item()) < 1e-9


def test_an_eps_of_1e_8_shifts_peaked_distributions_and_none_does_not():
    logits = 12 * torch.randn(8, 1000)
    assert correlation_distance(logits, logits, 1.0, class_wise=False, eps=1e-8) > 0.3


def test_classes_and_samples_may_be_permuted():
    student, teacher = torch.randn(2, 6, 9, dtype=torch.float64)
    rows, columns = torch.randperm(6), torch.randperm(9)
    torch.testing.assert_close(
        correlation_distance(student[rows][:, columns], teacher[rows][:, columns]),
        correlation_distance(student, teacher),
    )


def test_very_unlikely_classes_give_the_same_in_float32_and_float64():
    student, teacher = torch.randn(2, 8, 10, dtype=torch.float64)
    student[:, 3], teacher[:, 3] = student[:, 3] - 200, teacher[:, 3] - 200
    wide = student.clone().requires_grad_()
    narrow = student.float().requires_grad_()
    expected = correlation_distance(wide, teacher, 1.0, class_wise=False)
    value = correlation_distance(narrow, teacher.float(), 1.0, class_wise=False)
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=0)
    expected.backward()
    value.backward()
    torch.testing.assert_close(narrow.grad.double(), wide.grad, rtol=1e-2, atol=1e-5)
    assert wide.grad[:, 3].abs().max() > 1e-4


def test_both_switches_off_is_an_error():
    with pytest.raises(ValueError, match='class_wise and batch_wise are both False'):
        CorrelationDistanceLoss(class_wise=False, batch_wise=False)


@pytest.mark.parametrize('eps', [0.0, -1.0])
def test_eps_is_checked_when_the_loss_is_built(eps):
    with pytest.raises(ValueError, match=f'eps must be a positive finite number, got {eps}'):
        CorrelationDistanceLoss(eps=eps)
