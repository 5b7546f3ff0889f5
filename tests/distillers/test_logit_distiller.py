import copy
import warnings
from operator import attrgetter

import pytest
import torch
import toys
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmrazor.models.algorithms.base import BaseAlgorithm
from torch import nn
from torch.nn.functional import cross_entropy

from r2kd_mm.augmentations import BatchAugmentation, Cutout
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss
from r2kd_mm.moved import ATTRIBUTES
from r2kd_mm.registry import MODELS


class SquaredError(nn.Module):
    """Mean squared difference of the logits, which keeps what it was given."""

    def forward(self, student_logits, teacher_logits):
        self.given = student_logits, teacher_logits
        return (student_logits - teacher_logits).square().mean()


class Labelled(nn.Module):
    needs_target = True

    def forward(self, student_logits, teacher_logits, target):
        self.target = target
        return cross_entropy(student_logits, target)


class Negative(BatchAugmentation):
    keeps_labels = False

    def __call__(self, images, context):
        return -images


def build(**fields):
    torch.manual_seed(0)
    fields = dict(
        dict(
            architecture=toys.classifier(),
            teacher=toys.classifier(width=8, dropout=0.5),
            allow_untrained_teacher=True,
            losses=dict(loss_kd=KLDivergenceLoss()),
        ),
        **fields,
    )
    return MODELS.build(dict(type='LogitDistiller', **fields))


def test_is_an_mmrazor_algorithm():
    assert isinstance(build(), BaseAlgorithm)


def test_the_clean_step_is_the_students_own_loss_and_the_named_losses():
    loss = SquaredError()
    model = build(losses=dict(loss_square=loss)).eval()
    images, samples = toys.batch()
    losses = model(images, samples, mode='loss')
    assert set(losses) == {'student.loss', 'clean.loss_square'}
    student_logits = model(images, mode='tensor')
    teacher_logits = model.teacher(images, mode='tensor')
    labels = torch.cat([sample.gt_label for sample in samples])
    torch.testing.assert_close(losses['student.loss'], cross_entropy(student_logits, labels))
    torch.testing.assert_close(losses['clean.loss_square'], (student_logits - teacher_logits).square().mean())


def test_the_augmented_view_goes_through_student_and_teacher_again():
    model = build(losses=dict(loss_square=SquaredError()), augmentation=Negative()).eval()
    images, samples = toys.batch()
    losses = model.loss(images, samples)
    assert set(losses) == {'student.loss', 'clean.loss_square', 'augmented.loss_square'}
    difference = model(-images, mode='tensor') - model.teacher_logits(-images)
    torch.testing.assert_close(losses['augmented.loss_square'], difference.square().mean())


def test_the_sum_of_all_terms_is_trained_and_reaches_the_whole_student():
    model = build(augmentation=Cutout(3), task_loss_weight=0.25)
    images, samples = toys.batch()
    total, log = model.parse_losses(model.loss(images, samples))
    torch.testing.assert_close(total, sum(value for name, value in log.items() if name != 'loss'))
    total.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_task_loss_weight_scales_the_students_own_loss_alone():
    images, samples = toys.batch()
    full, quarter = (build(task_loss_weight=weight).eval().loss(images, samples) for weight in (1.0, 0.25))
    torch.testing.assert_close(quarter['student.loss'], 0.25 * full['student.loss'])
    torch.testing.assert_close(quarter['clean.loss_kd'], full['clean.loss_kd'])


def test_predicts_by_the_student_alone_and_needs_no_teacher_for_it(monkeypatch):
    model = build().eval()
    images, samples = toys.batch()
    alone = build(teacher=None).eval()
    alone.load_state_dict(model.state_dict())
    monkeypatch.setattr(model.teacher, 'forward', None)  # calling it would fail
    for network in (model, alone):
        assert torch.equal(network(images, mode='tensor'), model.architecture(images, mode='tensor'))
        assert torch.equal(
            network(images, samples, mode='predict')[0].pred_score,
            model.architecture(images, samples, mode='predict')[0].pred_score,
        )
    with pytest.raises(RuntimeError, match='built with teacher=None, to evaluate the student'):
        alone.loss(images, samples)


class TestTeacherIsFrozenForGood:
    def test_eval_mode_survives_train_dropout_and_stochastic_depth_included(self):
        model = build()
        images, samples = toys.batch()
        before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
        assert model.train() is model
        assert model.architecture.training
        assert any(isinstance(module, nn.Dropout) for module in model.teacher.modules())
        assert not any(module.training for module in model.teacher.modules())
        first, second = model.teacher_logits(images), model.teacher_logits(images)
        assert torch.equal(first, second)
        assert not first.requires_grad
        sum(model.loss(images, samples).values()).backward()
        for name, value in model.teacher.state_dict().items():
            assert torch.equal(value, before[name])

    def test_is_in_no_parameter_list_checkpoint_or_optimizer(self):
        model = build()
        student = toys.classifier()
        assert len(list(model.parameters())) == len(list(MODELS.build(student).parameters()))
        assert list(model.state_dict()) == [f'architecture.{name}' for name in model.architecture.state_dict()]
        optimizer = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))).optimizer
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group['params']}
        assert trained == {id(parameter) for parameter in model.architecture.parameters()}

    def test_is_not_averaged_or_copied_by_a_moving_average(self):
        model = build()
        average = ExponentialMovingAverage(model)
        assert average.module.teacher is model.teacher
        assert not any('teacher' in name for name in average.state_dict())

    def test_moves_with_the_student_and_a_moved_copy_leaves_the_original(self):
        model = build()
        moved = copy.deepcopy(model).double()
        assert {tensor.dtype for tensor in moved.teacher.parameters()} == {torch.float64}
        assert {tensor.dtype for tensor in model.teacher.parameters()} == {torch.float32}
        model.to('meta')
        assert {tensor.device.type for tensor in model.teacher.parameters()} == {'meta'}

    def test_computes_no_loss_and_needs_no_label(self, monkeypatch):
        model = build()
        monkeypatch.setattr(model.teacher.head, 'loss', None)
        model.loss(*toys.batch())

    def test_initialising_the_model_leaves_its_weights(self):
        model = build()
        before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
        model.init_weights()
        assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())


class TestAugmentedView:
    def test_draws_follow_the_seed_and_change_from_step_to_step(self):
        images, samples = toys.batch()

        def views(seed, steps=2):
            loss = SquaredError()
            model = build(losses=dict(loss_square=loss), augmentation=Cutout(3)).eval()
            torch.manual_seed(seed)
            given = []
            for _ in range(steps):
                model.loss(images, samples)
                given.append(loss.given[1])
            return given

        first, second = views(seed=1)
        again, _ = views(seed=1)
        other, _ = views(seed=2)
        assert torch.equal(first, again)
        assert not torch.equal(first, second)
        assert not torch.equal(first, other)

    def test_leaves_out_losses_whose_labels_it_would_mix(self):
        losses = dict(loss_kd=KLDivergenceLoss(), loss_labelled=Labelled())
        images, samples = toys.batch()
        mixed = build(losses=losses, augmentation=Negative()).loss(images, samples)
        assert set(mixed) == {'student.loss', 'clean.loss_kd', 'clean.loss_labelled', 'augmented.loss_kd'}
        kept = build(losses=losses, augmentation=Cutout(3)).loss(images, samples)
        assert set(kept) - set(mixed) == {'augmented.loss_labelled'}

    def test_the_clean_batch_stays_as_it_is(self):
        model = build(augmentation=dict(type='CutMix', alpha=1.0))
        images, samples = toys.batch()
        before = images.clone()
        model.loss(images, samples)
        assert torch.equal(images, before)


class TestConsistency:
    def test_draws_the_students_augmented_logits_to_its_clean_ones(self):
        loss = SquaredError()
        model = build(consistency=loss, augmentation=Cutout(3)).eval()
        terms = model.loss(*toys.batch())
        assert set(terms) == {'student.loss', 'clean.loss_kd', 'augmented.loss_kd', 'consistency.loss'}
        moved, drawn_to = loss.given
        assert torch.equal(moved, model.step_logits['augmented', 'student'])
        assert torch.equal(drawn_to, model.step_logits['clean', 'student'])
        assert moved.requires_grad
        assert not drawn_to.requires_grad
        assert terms['consistency.loss'] > 0

    def test_goes_with_the_augmented_view(self):
        model = build(consistency=SquaredError(), augmentation=Cutout(32)).eval()  # of images without a pixel left
        whole = model.loss(*toys.batch())['consistency.loss']
        model.step.objective.set_augmented_scale(0.25)
        torch.testing.assert_close(model.loss(*toys.batch())['consistency.loss'], 0.25 * whole)
        model.step.objective.set_augmented_scale(0)
        assert set(model.loss(*toys.batch())) == {'student.loss', 'clean.loss_kd'}

    @pytest.mark.parametrize(
        ('fields', 'message'),
        [
            (dict(), 'consistency compares the augmented view with the clean one; give an augmentation'),
            (dict(augmentation=dict(type='CutMix')), 'which CutMix makes of several images; take .* AutoAugment'),
            (dict(augmentation=Cutout(3), consistency=dict(type='DKDLoss')), 'DKDLoss needs labels; take a loss that'),
        ],
        ids=['no view', 'mixed view', 'labels'],
    )
    def test_refuses_what_has_no_counterpart(self, fields, message):
        with pytest.raises(ValueError, match=message):
            build(**dict(dict(consistency=dict(type='KLDivergenceLoss')), **fields))


def test_losses_get_the_labels_that_they_need():
    loss = Labelled()
    images, samples = toys.batch()
    build(losses=dict(loss_labelled=loss)).loss(images, samples)
    assert torch.equal(loss.target, torch.cat([sample.gt_label for sample in samples]))
    for sample in samples:
        sample.set_gt_score(torch.full((toys.NUM_CLASSES,), 0.2))
    build(losses=dict(loss_labelled=loss)).loss(images, samples)
    assert loss.target.shape == (6, toys.NUM_CLASSES)


class TestScales:
    def test_scale_a_loss_on_both_views(self):
        images, samples = toys.batch()
        model = build(
            losses=dict(loss_square=SquaredError(), loss_kd=KLDivergenceLoss()), augmentation=Negative()
        ).eval()
        before = model.loss(images, samples)
        model.step.objective.set_loss_scale('loss_kd', 0.5)
        model.step.objective.set_augmented_scale(0.5)
        after = model.loss(images, samples)
        for name, share in {
            'clean.loss_kd': 0.5,
            'augmented.loss_kd': 0.25,
            'clean.loss_square': 1,
            'augmented.loss_square': 0.5,
            'student.loss': 1,
        }.items():
            torch.testing.assert_close(after[name], share * before[name])

    def test_without_anything_to_distil_the_teacher_rests(self, monkeypatch):
        images, samples = toys.batch()
        stopped, unscaled = build(augmentation=Negative()), build(augmentation=Negative())
        stopped.distillation_stopped = True
        unscaled.step.objective.set_loss_scale('loss_kd', 0)
        for model in (stopped, unscaled):
            monkeypatch.setattr(model.teacher, 'forward', None)  # calling it would fail
            assert set(model.loss(images, samples)) == {'student.loss'}

    def test_an_augmented_scale_of_zero_skips_the_view(self):
        model = build(augmentation=Negative())
        model.step.objective.set_augmented_scale(0)
        assert set(model.loss(*toys.batch())) == {'student.loss', 'clean.loss_kd'}

    def test_refuse_what_is_not_there(self):
        with pytest.raises(ValueError, match=r"no distillation loss 'loss_kl'; this model has \['loss_kd'\]"):
            build().step.objective.set_loss_scale('loss_kl', 1)
        with pytest.raises(ValueError, match='no augmented view to schedule'):
            build().step.objective.set_augmented_scale(1)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(losses={}), 'losses must be a dict of at least one named loss'),
        (
            dict(losses=dict(kd=KLDivergenceLoss())),
            "must contain 'loss', because MMEngine .* got 'kd'; call it 'loss_kd'",
        ),
        (dict(losses=dict(loss_kd=dict(type='KLLoss'))), r"unknown loss 'KLLoss'.*KLDivergenceLoss"),
        (dict(augmentation=dict(type='CutMixx')), r"unknown augmentation 'CutMixx'.*CutMix"),
        (dict(task_loss_weight=-1), 'task_loss_weight must be a finite number of 0 or more, got -1'),
        (dict(task_loss_weight='much'), "task_loss_weight must be a finite number of 0 or more, got 'much'"),
        (dict(joint_views='no'), "joint_views must be True or False, got 'no'"),
        (dict(allow_untrained_teacher=False), 'the teacher has no weights: set teacher_ckpt'),
        (dict(teacher=toys.classifier(num_classes=7)), 'got num_classes=5 in the student and 7 in the teacher'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_refuses_what_does_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_refuses_a_field_that_it_does_not_know():
    with pytest.raises((TypeError, ValueError), match='teacher_checkpoint'):
        build(teacher_checkpoint='x.pth')


def test_refuses_a_student_without_a_head():
    student = toys.classifier()
    student['head'] = None
    with pytest.raises(TypeError, match='the student ImageClassifier has no head'):
        build(architecture=student, losses=dict(loss_square=SquaredError())).loss(*toys.batch())


def test_distils_a_student_inside_another_algorithm():
    inner = build().architecture
    model = LogitDistiller(BaseAlgorithm(inner), build().teacher, dict(loss_kd=KLDivergenceLoss()))
    losses = model.loss(*toys.batch())
    assert set(losses) == {'student.loss', 'clean.loss_kd'}
    assert next(iter(model.state_dict())).startswith('architecture.architecture.')


@pytest.mark.parametrize('shared', ['head', 'backbone', 'whole network'])
def test_what_student_and_teacher_share_is_trained_in_the_student_and_frozen_in_the_teacher(shared):
    student, teacher = MODELS.build(toys.classifier()), MODELS.build(toys.classifier())
    if shared == 'whole network':
        teacher = student
    else:
        setattr(student, shared, getattr(teacher, shared))
    model = build(architecture=student, teacher=teacher, allow_untrained_teacher=False).train()
    before = copy.deepcopy(model.teacher.state_dict())
    optim_wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.1)))
    untrained = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
    images, samples = toys.batch()
    model.train_step(dict(inputs=list(images), data_samples=samples), optim_wrapper)
    assert [name for name, parameter in student.named_parameters() if torch.equal(parameter, untrained[name])] == []
    assert all(torch.equal(weight, before[name]) for name, weight in model.teacher.state_dict().items())


def test_a_student_that_is_given_as_a_network_starts_with_its_weights():
    student = MODELS.build(toys.classifier())
    given = copy.deepcopy(student.state_dict())
    model = build(architecture=student)
    model.init_weights()
    assert all(torch.equal(weight, given[name]) for name, weight in model.architecture.state_dict().items())


def test_a_student_that_is_given_as_a_network_still_loads_what_its_init_cfg_names(tmp_path):
    saved = MODELS.build(toys.classifier()).state_dict()
    torch.save(saved, tmp_path / 'student.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'student.pth'))
    model = build(architecture=MODELS.build(dict(toys.classifier(), init_cfg=init_cfg)))
    model.init_weights()
    assert all(torch.equal(weight, saved[name]) for name, weight in model.architecture.state_dict().items())


def test_a_subclass_may_ask_the_teacher_in_another_way():
    class Doubled(LogitDistiller):
        def ask(self, name, inputs):
            return 2 * super().ask(name, inputs)

    fields = dict(teacher=toys.classifier(), losses=dict(loss_kd=KLDivergenceLoss()), allow_untrained_teacher=True)
    model = Doubled(architecture=toys.classifier(), **fields)
    images, samples = toys.batch()
    model.loss(images, samples)
    torch.testing.assert_close(model.step_logits['clean', 'teacher'], 2 * model.teacher(images, mode='tensor'))


class TestMovedParts:
    def test_an_old_attribute_is_read_with_a_warning_and_not_set(self):
        model = build()
        with pytest.warns(FutureWarning, match='task_loss_weight of a LogitDistiller is now step.objective.task_loss'):
            assert model.task_loss_weight == 1.0
        with pytest.warns(FutureWarning, match='set_loss_scale of a LogitDistiller is now step.objective.set_loss'):
            model.set_loss_scale('loss_kd', 0.5)
        assert model.step.objective.loss_scales == {'loss_kd': 0.5}
        for name in ('task_loss_weight', 'augmentation', 'replay', 'gather'):
            with pytest.raises(AttributeError, match=f'{name} of a LogitDistiller is now step'):
                setattr(model, name, 0)
        with pytest.raises(AttributeError, match='nothing'):
            model.nothing  # noqa: B018

    def test_every_old_attribute_is_found_and_takes_no_module_either(self):
        model = build()
        for name, place in ATTRIBUTES['LogitDistiller'].items():
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', FutureWarning)
                assert getattr(model, name) == attrgetter(place)(model), name
            with pytest.raises(AttributeError, match=f'{name} of a LogitDistiller is now {place}; set it there'):
                setattr(model, name, nn.Identity())  # which PyTorch would register before it asks a property

    @pytest.mark.parametrize('name', ['set_loss_scale', '_teach', 'fill_replay'])
    def test_a_method_that_nobody_calls_cannot_be_overridden(self, name):
        with pytest.raises(TypeError, match=f'Own overrides {name}, which nobody calls'):
            type('Own', (LogitDistiller,), {name: lambda self: None})

    def test_a_student_that_is_replaced_is_refused(self):
        model = build()
        model.architecture = nn.Sequential(model.architecture)
        with pytest.raises(RuntimeError, match='the student was replaced by a Sequential after the distiller'):
            model.loss(*toys.batch())

    def test_a_copy_trains_its_own_student(self):
        model = copy.deepcopy(build())
        model.parse_losses(model.loss(*toys.batch()))[0].backward()
        assert all(parameter.grad is not None for parameter in model.architecture.parameters())
