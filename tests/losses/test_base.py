"""Properties that every loss has."""

import itertools

import pytest
import torch

import r2kd_mm.losses as losses
from r2kd_mm.losses import (
    CMKDLoss,
    CorrelationDistanceLoss,
    DISTLoss,
    DKDLoss,
    KendallLoss,
    KLDivergenceLoss,
    LogitLoss,
    LogitStandardization,
    LossPart,
    MLKDLoss,
    RankDistanceLoss,
)
from r2kd_mm.registry import MODELS

TRAINING = [
    CorrelationDistanceLoss(),
    CorrelationDistanceLoss(centered=True, batch_wise=False),
    CorrelationDistanceLoss(class_wise=False, eps=1e-8),
    RankDistanceLoss(estimator='sigmoid'),
    RankDistanceLoss(estimator='permutahedron'),
    RankDistanceLoss(estimator='blackbox'),
    KLDivergenceLoss(),
    DISTLoss(),
    DKDLoss(),
    MLKDLoss(),
    KendallLoss(),
    CMKDLoss(),
    CMKDLoss(difficulty='disagreement', batch_wise=True),
    CMKDLoss(difficulty='loss', estimator='blackbox'),
    LogitStandardization(KLDivergenceLoss(temperature=2.0)),
    LogitStandardization(DKDLoss()),
]


def name(loss):
    settings = {key: value for key, value in vars(loss).items() if isinstance(value, str)}
    return '-'.join([type(loss).__name__, *settings.values()])


EACH = pytest.mark.parametrize('loss', TRAINING, ids=name)


def evaluate(loss, student_logits, teacher_logits):
    target = torch.arange(len(student_logits)) % student_logits.shape[1]
    return loss(student_logits, teacher_logits, *[target] * loss.needs_target)


def test_every_exported_loss_is_tested_here():
    exported = {value for value in vars(losses).values() if isinstance(value, type) and issubclass(value, LogitLoss)}
    assert exported - {LogitLoss} == {type(loss) for loss in TRAINING}


# Settings that leave one part on its own, or none, so that what each part states is measured.
SINGLE_PARTS = [
    CorrelationDistanceLoss(batch_wise=False),
    CorrelationDistanceLoss(class_wise=False),
    CorrelationDistanceLoss(centered=True, class_wise=False),
    RankDistanceLoss(estimator='hard'),
    DISTLoss(intra_weight=0),
    DISTLoss(inter_weight=0),
    DKDLoss(beta=0),
    DKDLoss(alpha=0),
    MLKDLoss(batch_weight=0, class_weight=0),
    MLKDLoss(instance_weight=0, class_weight=0),
    MLKDLoss(instance_weight=0, batch_weight=0, quantile=None),
    CMKDLoss(estimator='hard'),
    CMKDLoss(batch_wise=True, estimator='hard'),
    LogitStandardization(CorrelationDistanceLoss(class_wise=False)),
    LogitStandardization(DISTLoss(inter_weight=0)),
    LogitStandardization(RankDistanceLoss(estimator='hard')),
    LogitStandardization(torch.nn.MSELoss()),
]


@pytest.mark.parametrize('loss', TRAINING + SINGLE_PARTS, ids=name)
def test_has_a_gradient_from_the_size_on_that_its_parts_state(loss):
    for classes, images in itertools.product((1, 2, 3, 4), repeat=2):
        generator = torch.Generator().manual_seed(0)
        largest = 0.0
        for _ in range(8):  # a rank that is right already has no gradient
            student, teacher = torch.randn(2, images, classes, dtype=torch.float64, generator=generator)
            if classes == 1 and isinstance(getattr(loss, 'loss', loss), DKDLoss):
                continue  # which refuses it
            student.requires_grad_()
            (evaluate(loss, student, teacher) + 0 * student.sum()).backward()  # hard ranks have no graph
            largest = max(largest, student.grad.abs().max().item())
        teaches = any(not part.is_silent(classes, images) for part in loss.parts)
        rounding = 1e-6 if getattr(loss, 'eps', None) else 1e-12  # eps in the norms leaves a gradient of its size
        assert largest > 1e-3 if teaches else largest < rounding, f'{classes} classes, {images} images: {largest}'


def test_a_loss_without_a_statement_cannot_be_defined():
    with pytest.raises(
        TypeError, match=r'Silent must state what it needs to train the student: set parts in the class'
    ):
        type('Silent', (LogitLoss,), {})
    assert type('Stated', (LogitLoss,), dict(parts=(LossPart('values'),)))().parts == (LossPart('values', 2, 1),)
    assert type('Inherited', (DISTLoss,), {})().parts == DISTLoss().parts


@pytest.mark.parametrize('loss', sorted({type(loss) for loss in TRAINING}, key=lambda cls: cls.__name__))
def test_found_in_the_registry(loss):
    assert MODELS.get(loss.__name__) is loss


@EACH
def test_trains_the_student_and_not_the_teacher(loss):
    student, teacher = (3 * torch.randn(16, 20)).requires_grad_(), (3 * torch.randn(16, 20)).requires_grad_()
    value = evaluate(loss, student, teacher)
    assert value.shape == ()
    value.backward()
    assert teacher.grad is None
    reached = student.grad.abs().sum(dim=1) > 0
    assert reached.all() or isinstance(loss, MLKDLoss)  # whose masks drop samples


@EACH
def test_twenty_plain_steps_lower_the_loss(loss):
    student, teacher = 3 * torch.randn(2, 32, 20)
    before = evaluate(loss, student, teacher)
    for _ in range(20):
        student.requires_grad_()
        (grad,) = torch.autograd.grad(evaluate(loss, student, teacher), student)
        student = (student - 3 * grad / grad.norm()).detach()
    assert evaluate(loss, student, teacher) < 0.9 * before


@EACH
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_compute_in_float32(loss, dtype):
    student, teacher = (3 * torch.randn(2, 16, 20)).to(dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = evaluate(loss, student, teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, evaluate(loss, student.float(), teacher.float()))


@EACH
def test_float64_stays_float64(loss):
    assert evaluate(loss, *torch.randn(2, 4, 5, dtype=torch.float64)).dtype == torch.float64


EDGES = {
    'constant student': (torch.zeros(4, 5), torch.arange(20.0).view(4, 5)),
    'constant teacher': (torch.arange(20.0).view(4, 5), torch.full((4, 5), 0.3)),
    'nearly constant student': (1e-6 * torch.arange(20.0).view(4, 5).cos(), torch.arange(20.0).view(4, 5)),
    'equal': (torch.arange(20.0).view(4, 5), torch.arange(20.0).view(4, 5)),
    'one sample': (torch.arange(5.0)[None], torch.arange(5.0)[None].sin()),
    'two classes': (torch.arange(8.0).view(4, 2).sin(), torch.arange(8.0).view(4, 2).cos()),
    'ties': (torch.tensor([[1.0, 1, 2, 2], [3, 0, 0, 3]]), torch.tensor([[0.0, 5, 5, 0], [1, 1, 1, 2]])),
    'huge': (1e4 * torch.arange(20.0).view(4, 5).sin(), 1e4 * torch.arange(20.0).view(4, 5).cos()),
    'opposed and huge': (1e4 * torch.eye(4), -1e4 * torch.eye(4)),
}


@EACH
@pytest.mark.parametrize('case', EDGES)
def test_edges_have_finite_values_and_gradients_of_bounded_size(loss, case):
    student, teacher = EDGES[case]
    student = student.clone().requires_grad_()
    value = evaluate(loss, student, teacher)
    assert value.isfinite()
    assert value >= -1e-5
    value.backward()
    # Of the order of the weights times the squared temperature. The slope of a loss that ignores the scale of logits
    # grows as 1 / deviation until a row counts as constant; logits that deviate by 1e-6 around 0 do not.
    assert student.grad.norm() < (4e6 if case == 'nearly constant student' else 40)


@EACH
@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_nan_is_never_hidden(loss, side):
    student, teacher = 3 * torch.randn(2, 8, 6)
    (student if side == 'student' else teacher)[2, 3] = torch.nan
    student.requires_grad_()
    value = evaluate(loss, student, teacher)
    assert value.isnan()


MASKED = [
    CorrelationDistanceLoss(batch_wise=False),
    KLDivergenceLoss(),
    DISTLoss(intra_weight=0),
    DKDLoss(),
    MLKDLoss(quantile=None),
    MLKDLoss(),
]


@pytest.mark.parametrize('loss', MASKED, ids=name)
def test_logits_of_minus_infinity_on_both_sides_are_the_limit_of_a_class_that_cannot_be(loss):
    student, teacher = 3 * torch.randn(2, 8, 6, dtype=torch.float64)
    impossible = torch.full((8, 1), -torch.inf, dtype=torch.float64)
    unlikely = impossible.clone().fill_(-1e4)
    results = []
    for column in (impossible, unlikely):
        inputs = torch.cat([student, column], dim=1).requires_grad_()
        value = evaluate(loss, inputs, torch.cat([teacher, column], dim=1))
        value.backward()
        results.append((value.detach(), inputs.grad))
    (value, gradient), (limit, gradient_of_limit) = results
    torch.testing.assert_close(gradient[:, :6], gradient_of_limit[:, :6])
    assert gradient[:, 6].abs().max() == 0
    torch.testing.assert_close(value, limit)


def test_a_class_that_no_image_can_have_counts_one_in_a_correlation_over_the_images():
    student, teacher = 3 * torch.randn(2, 8, 6, dtype=torch.float64)
    impossible = torch.full((8, 1), -torch.inf, dtype=torch.float64)
    loss = CorrelationDistanceLoss(temperature=4.0, loss_weight=1.0, class_wise=False)
    inputs = torch.cat([student, impossible], 1).requires_grad_()
    value = loss(inputs, torch.cat([teacher, impossible], 1))
    torch.testing.assert_close(value, (6 * loss(student, teacher) + 16) / 7)
    value.backward()
    assert inputs.grad.isfinite().all()


def test_a_mask_of_minus_infinity_leaves_kl_and_dkd_as_without_the_class():
    student, teacher = 3 * torch.randn(2, 8, 6, dtype=torch.float64)
    impossible = torch.full((8, 1), -torch.inf, dtype=torch.float64)
    target = torch.arange(8) % 6
    for loss in (KLDivergenceLoss(), DKDLoss()):
        labels = (target,) * loss.needs_target
        masked = loss(torch.cat([student, impossible], 1), torch.cat([teacher, impossible], 1), *labels)
        torch.testing.assert_close(masked, loss(student, teacher, *labels))
    # a class that the teacher alone excludes has no term; one that the student alone excludes costs without bound
    excluded = teacher.clone()
    excluded[:, 0] = -torch.inf
    q, p_log = (excluded / 4).softmax(1), (student / 4).log_softmax(1)
    expected = 16 * (q * (q.clamp(min=1e-300).log() - p_log)).sum(1).mean()
    torch.testing.assert_close(KLDivergenceLoss()(student, excluded), expected)
    assert KLDivergenceLoss()(excluded, teacher) == torch.inf


@EACH
@pytest.mark.parametrize(
    ('student', 'teacher', 'message'),
    [
        (torch.ones(2, 3), torch.ones(2, 4), r'one shape \(N, C\), got \(2, 3\) and \(2, 4\).*num_classes'),
        (torch.ones(3), torch.ones(3), r'two-dimensional, \(N, C\), got \(3,\) and \(3,\)'),
        (torch.ones(0, 3), torch.ones(0, 3), r'not be empty, got \(0, 3\)'),
        (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.long), r'floating point, got torch.float32 and torch.int64'),
    ],
)
def test_wrong_logits_are_named(loss, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        loss(student, teacher, *[torch.zeros(len(student), dtype=torch.long)] * loss.needs_target)


@pytest.mark.parametrize('cls', [CorrelationDistanceLoss, KLDivergenceLoss, DISTLoss, DKDLoss, CMKDLoss])
@pytest.mark.parametrize('temperature', [0.0, -4.0, float('nan'), float('inf')])
def test_temperature_is_checked_when_the_loss_is_built(cls, temperature):
    with pytest.raises(ValueError, match=f'temperature must be a positive finite number, got {temperature}'):
        cls(temperature=temperature)


@pytest.mark.parametrize('cls', sorted({type(loss) for loss in TRAINING} - {LogitStandardization}, key=str))
def test_loss_weight_scales_the_loss_and_is_checked(cls):
    student, teacher = torch.randn(2, 6, 5)
    torch.testing.assert_close(
        evaluate(cls(loss_weight=6.0), student, teacher), 3 * evaluate(cls(loss_weight=2.0), student, teacher)
    )
    with pytest.raises(ValueError, match='loss_weight must be a finite number of 0 or more, got -1'):
        cls(loss_weight=-1)


@pytest.mark.parametrize('loss', [CorrelationDistanceLoss(), RankDistanceLoss(estimator='hard')], ids=name)
def test_works_in_the_configurable_distiller_of_mmrazor(loss):
    from mmengine.model import BaseModel
    from mmrazor.models.distillers import ConfigurableDistiller

    class Net(BaseModel):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(4, 6)

        def forward(self, x):
            return self.fc(x)

    recorders = dict(logits=dict(type='ModuleOutputs', source='fc'))
    settings = {key: value for key, value in vars(loss).items() if not key.startswith('_') and key != 'training'}
    distiller = ConfigurableDistiller(
        student_recorders=recorders,
        teacher_recorders=recorders,
        distill_losses=dict(loss_kd=dict(type=f'r2kd_mm.{type(loss).__name__}', **settings)),
        loss_forward_mappings=dict(
            loss_kd=dict(
                student_logits=dict(recorder='logits', from_student=True),
                teacher_logits=dict(recorder='logits', from_student=False),
            )
        ),
    )
    student, teacher, x = Net(), Net(), torch.randn(8, 4)
    distiller.prepare_from_student(student)
    distiller.prepare_from_teacher(teacher)
    with distiller.student_recorders, distiller.teacher_recorders:
        student(x)
        teacher(x)
    value = distiller.compute_distill_losses()['loss_kd']
    torch.testing.assert_close(value, loss(student.fc(x), teacher.fc(x)))
