import inspect

import pytest
import torch
import toys
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS as MMRAZOR_MODELS

from r2kd_mm.distillers import R2KD, LogitDistiller
from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss
from r2kd_mm.pruning import MagnitudePruner
from r2kd_mm.registry import MODELS


def build(without=(), **fields):
    torch.manual_seed(0)
    defaults = dict(
        architecture=toys.classifier(),
        teacher=toys.classifier(width=8, dropout=0.5),
        allow_untrained_teacher=True,
        pruner=dict(type='MagnitudePruner', amount=0.5),
        augmentation=None,
        losses=dict(loss_value=CorrelationDistanceLoss(), loss_rank=RankDistanceLoss()),
    )
    for name in without:
        del defaults[name]
    return MODELS.build({'type': 'R2KD', **defaults, **fields})


def test_by_name_alone_is_the_method():
    fields = dict(architecture=toys.classifier(), teacher=toys.classifier(width=8), allow_untrained_teacher=True)

    def losses(**stated):
        torch.manual_seed(0)
        model = MODELS.build(dict(type='R2KD', **fields, **stated))
        return model.loss(*toys.batch())

    stated = losses(
        losses=dict(
            loss_value=dict(type='CorrelationDistanceLoss', temperature=4.0, loss_weight=2.0),
            loss_rank=dict(type='RankDistanceLoss', loss_weight=2.0, estimator='sigmoid'),
        ),
        pruner=dict(type='MagnitudePruner', amount=0.1, scope='layer'),
        teacher_weight=0.7,
        pruned_teacher_mode='eval',
        augmentation=dict(type='CutMix', alpha=1.0),
        task_loss_weight=1.0,
    )
    torch.testing.assert_close(losses(), stated, rtol=0, atol=0)


@pytest.mark.parametrize('part', ['pruner', 'augmentation'])
def test_a_config_of_version_0_1_gains_no_part_without_a_word(part):
    stated = dict(pruner=None, augmentation=None)
    del stated[part]
    with pytest.warns(FutureWarning, match=f'R2KD got losses and no {part}.*State {part}=None to train without it, or'):
        model = build(**stated, without=('pruner', 'augmentation'))
    assert getattr(model, part) is None


def test_takes_what_a_distiller_takes_with_the_same_defaults():
    own = {'pruner', 'teacher_weight', 'pruned_teacher_mode', 'weighting'}
    method = {'losses', 'augmentation'}
    here, there = (inspect.signature(cls).parameters for cls in (R2KD, LogitDistiller))
    assert set(here) - own == set(there)
    assert {name for name in there if here[name].default != there[name].default} == method
    assert [name for name in here if name not in own] == list(there)


def test_learns_from_the_weighted_logits_of_teacher_and_pruned_copy():
    model = build(teacher_weight=0.7)
    images, _ = toys.batch()
    full, pruned = model.teacher(images), model.pruned_teacher(images)
    assert not torch.allclose(full, pruned)
    torch.testing.assert_close(model.teacher_logits(images), 0.7 * full + 0.3 * pruned)


def test_the_step_has_all_terms_of_the_paper():
    model = build(augmentation=dict(type='CutMix', alpha=1.0))
    losses = model.loss(*toys.batch())
    assert set(losses) == {
        'student.loss',
        'clean.loss_value',
        'clean.loss_rank',
        'augmented.loss_value',
        'augmented.loss_rank',
    }
    for name, value in losses.items():
        gradients = torch.autograd.grad(value, model.parameters(), retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients), name


def test_prunes_a_copy_of_the_loaded_weights(tmp_path):
    trained = build().teacher
    torch.save(trained.state_dict(), tmp_path / 'teacher.pth')
    torch.manual_seed(9)
    model = build(teacher_ckpt=str(tmp_path / 'teacher.pth'))
    expected, _ = MagnitudePruner(amount=0.5)(trained)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.teacher.state_dict().items())
    assert all(
        torch.equal(value, expected.state_dict()[name]) for name, value in model.pruned_teacher.state_dict().items()
    )


def test_both_teachers_stay_in_eval_mode_and_out_of_the_checkpoint():
    model = build().train()
    for teacher in model.teachers.values():
        assert not any(module.training for module in teacher.modules())
    assert list(model.teachers) == ['teacher', 'pruned_teacher']
    assert all(name.startswith('architecture.') for name in model.state_dict())


def test_without_a_pruner_learns_from_the_teacher_alone():
    model = build(pruner=None)
    images, _ = toys.batch()
    assert model.pruned_teacher is None
    torch.testing.assert_close(model.teacher_logits(images), model.teacher(images))


def test_released_mode_normalises_the_pruned_teacher_by_each_batch():
    model = build(pruned_teacher_mode='train', teacher=toys.classifier(width=8))
    images, _ = toys.batch()
    assert not model.teacher.training
    assert model.double().pruned_teacher.training
    mean = model.pruned_teacher.backbone.bn1.running_mean.clone()
    model.teacher_logits(images.double())
    assert not torch.equal(model.pruned_teacher.backbone.bn1.running_mean, mean)


def test_builds_the_student_alone_for_evaluation():
    model = build(teacher=None)
    assert len(model.teachers) == 0
    assert model.pruned_teacher is None
    assert model(toys.batch()[0]).shape == (6, toys.NUM_CLASSES)


def test_is_found_by_its_prefixed_name_from_other_scopes():
    for scope in ('mmpretrain', 'mmrazor', 'mmengine'):
        with DefaultScope.overwrite_default_scope(scope):
            config = dict(
                type='r2kd_mm.R2KD',
                architecture=dict(toys.classifier(), _scope_='mmpretrain'),
                teacher=dict(toys.classifier(), _scope_='mmpretrain'),
                allow_untrained_teacher=True,
                pruner=dict(type='MagnitudePruner'),
                losses=dict(loss_value=dict(type='CorrelationDistanceLoss')),
            )
            assert MMRAZOR_MODELS.build(config).pruned_teacher is not None


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(teacher_weight='most'), "teacher_weight is the share .* got 'most'"),
        (dict(teacher_weight=1.5), r'teacher_weight is the share .* got 1.5'),
        (dict(teacher_weight=float('nan')), r'teacher_weight is the share .* got nan'),
        (dict(pruned_teacher_mode='frozen'), r"pruned_teacher_mode must be one of \('eval', 'train'\), got 'frozen'"),
        (dict(pruner=dict(type='MagnitudePruner', amount=1.0)), 'amount is the fraction of weights to remove'),
        (dict(pruner=dict(type='Pruner')), "unknown pruner 'Pruner'.*MagnitudePruner"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_refuses_what_is_out_of_range(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)
