"""Count the forward passes of a distiller's networks, and check their inputs and arithmetic."""

import shutil

import pytest
import torch
import toys

from r2kd_mm.augmentations import BatchAugmentation
from r2kd_mm.distillers import R2KD, LogitDistiller
from r2kd_mm.distillers.student import compile_backbone_
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.engine import TeacherEngine

SIZE = 6
NEEDS_COMPILER = pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs a C++ compiler')


class Negative(BatchAugmentation):
    """A view without draws."""

    keeps_labels = True

    def __call__(self, images, context):
        return -images


def build(student: dict | None = None, **fields) -> R2KD:
    torch.manual_seed(0)
    return R2KD(
        dict(student or toys.classifier(), _scope_='r2kd_mm'),
        dict(toys.classifier(width=8), _scope_='r2kd_mm'),
        dict(loss_value=dict(type='CorrelationDistanceLoss'), loss_kd=dict(type='KLDivergenceLoss')),
        pruner=dict(type='MagnitudePruner', amount=0.3),
        allow_untrained_teacher=True,
        augmentation=Negative(),
        **fields,
    )


def losses_and_gradients(model) -> tuple[dict, list[torch.Tensor]]:
    losses = model.loss(*toys.batch(SIZE))
    model.parse_losses(losses)[0].backward()
    return losses, [parameter.grad for parameter in model.parameters()]


def assert_same(one, other, rtol=1e-4) -> None:
    for name, value in one[0].items():
        torch.testing.assert_close(value, other[0][name], rtol=rtol, atol=1e-5)
    for first, second in zip(one[1], other[1]):
        torch.testing.assert_close(first, second, rtol=rtol, atol=1e-4 * second.abs().max().item())


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """Batch sizes that the teacher engine was asked for, in order."""
    seen = []
    real = TeacherEngine.logits
    monkeypatch.setattr(
        TeacherEngine,
        'logits',
        lambda self, network, inputs: seen.append(len(inputs)) or real(self, network, inputs),
    )
    return seen


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        (dict(), [2 * SIZE] * 2),
        (dict(teacher_engine='fast'), [2 * SIZE] * 2),
        (dict(teacher_engine='plain'), [SIZE] * 4),
        (dict(pruned_teacher_mode='train'), [SIZE] * 4),
    ],
    ids=['exact', 'fast', 'plain', 'released'],
)
def test_each_teacher_sees_both_views_in_one_batch_unless_that_changes_its_logits(sizes, fields, expected):
    build(**fields).loss(*toys.batch(SIZE))
    assert sizes == expected


def test_joint_views_and_folded_teachers_give_the_losses_and_gradients_of_separate_plain_ones():
    assert_same(losses_and_gradients(build()), losses_and_gradients(build(teacher_engine='plain')))


@pytest.mark.parametrize('engine', ['exact', 'fast'])
def test_teachers_that_see_the_views_together_give_what_they_give_apart(monkeypatch, engine):
    together = losses_and_gradients(build(teacher_engine=engine))
    monkeypatch.setattr(TeacherEngine, 'can_join', lambda self, network: False)
    assert_same(together, losses_and_gradients(build(teacher_engine=engine)))


def test_half_precision_teachers_change_the_losses_little():
    exact, fast = (losses_and_gradients(build(teacher_engine=name))[0] for name in ('exact', 'fast'))
    for name, value in exact.items():
        assert fast[name].item() == pytest.approx(value.item(), rel=0.05)


def backbone_batches(model: LogitDistiller) -> list[int]:
    seen = []
    handle = model.architecture.backbone.register_forward_hook(lambda _module, args, _output: seen.append(len(args[0])))
    model.loss(*toys.batch(SIZE))
    handle.remove()
    return seen


def test_the_student_sees_the_views_apart_or_together():
    assert backbone_batches(build()) == [SIZE, SIZE]
    assert backbone_batches(build(joint_views=True)) == [2 * SIZE]


def test_joint_views_differ_by_batch_norm_alone():
    apart, together = build().eval(), build(joint_views=True).eval()
    assert_same(losses_and_gradients(apart), losses_and_gradients(together))
    apart, together = build(), build(joint_views=True)  # in train mode, the statistics are of both views
    one, other = losses_and_gradients(apart)[0], losses_and_gradients(together)[0]
    assert abs(one['student.loss'] - other['student.loss']) > 1e-3


def test_channels_last_is_a_matter_of_memory_alone():
    model = build(channels_last=True)
    weight = model.architecture.backbone.conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert_same(losses_and_gradients(model), losses_and_gradients(build()))


def test_a_strided_convolution_of_few_channels_keeps_out_of_channels_last():
    """There oneDNN's backward pass writes past its memory; without AVX-512 the test above crashes without this."""
    model = build(channels_last=True)
    formats = {}

    def note(module, args, _output):
        formats[module.in_channels] = (args[0].is_contiguous(), module.weight.stride()[-1] == 1)

    for module in model.architecture.modules():
        if isinstance(module, torch.nn.Conv2d) and (module.kernel_size, module.stride) == ((1, 1), (2, 2)):
            module.register_forward_hook(note)
    losses_and_gradients(model)
    assert formats == {4: (True, True), 8: (True, True), 16: (False, False)}


@MODELS.register_module()
class OneConvolution(torch.nn.Sequential):
    """A backbone of one layer: to compile takes seconds a layer."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU())

    def forward(self, images):
        return (super().forward(images),)


@NEEDS_COMPILER
@pytest.mark.slow
def test_a_compiled_student_has_the_losses_gradients_and_names_of_an_eager_one():
    small = dict(
        type='ImageClassifier',
        backbone=dict(type='OneConvolution'),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=toys.NUM_CLASSES, in_channels=8),
    )
    compiled, eager = build(small, compile_student=True), build(small)
    assert list(compiled.state_dict()) == list(eager.state_dict())
    assert_same(losses_and_gradients(compiled), losses_and_gradients(eager), rtol=1e-3)


def test_a_student_without_backbone_is_not_compiled():
    class Bare(torch.nn.Module):
        pass

    with pytest.raises(TypeError, match='the backbone of the student, and Bare has none; leave compile_student out'):
        compile_backbone_(Bare())


def student_after_building(teacher: dict | None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = LogitDistiller(
        dict(toys.classifier(), _scope_='r2kd_mm'),
        teacher,
        dict(loss_kd=dict(type='KLDivergenceLoss')),
        allow_untrained_teacher=True,
    )
    model.init_weights()
    return model.state_dict()


def test_a_student_starts_the_same_whoever_its_teacher_is():
    alone = student_after_building(None)
    taught = student_after_building(dict(toys.classifier(width=8), _scope_='r2kd_mm'))
    assert all(torch.equal(value, taught[name]) for name, value in alone.items())
