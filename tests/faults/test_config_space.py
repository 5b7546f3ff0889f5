"""Any valid combination of distiller fields trains; a single invalid field is named before the first step."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import pytest
import torch
import toys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.optim import OptimWrapper

import r2kd_mm.augmentations as augmentations
import r2kd_mm.losses as losses
from r2kd_mm.augmentations.auto_augment import POLICIES
from r2kd_mm.functional.ranking import ESTIMATORS
from r2kd_mm.registry import MODELS

EXAMPLES = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


def config(name: str, **fields: st.SearchStrategy) -> st.SearchStrategy[dict[str, Any]]:
    """Configs of a type with some of these fields."""
    return st.fixed_dictionaries(dict(type=st.just(name)), optional=fields)


def fraction(**bounds) -> st.SearchStrategy[float]:
    return st.floats(0, 1, **bounds)


WEIGHT = st.sampled_from([0, 0.5, 2.0])
TEMPERATURE = st.sampled_from([0.5, 1, 4.0, 20.0])
FLAG = st.booleans()
ALPHA = st.floats(0.05, 5)
PLAIN_LOSSES = {
    'CorrelationDistanceLoss': dict(
        temperature=TEMPERATURE,
        loss_weight=WEIGHT,
        centered=FLAG,
        class_wise=FLAG,
        batch_wise=FLAG,
        eps=st.sampled_from([None, 1e-8]),
    ),
    'RankDistanceLoss': dict(
        loss_weight=WEIGHT, estimator=st.sampled_from(sorted(set(ESTIMATORS) - {'hard'})), smoothing=st.floats(0.05, 5)
    ),
    'KLDivergenceLoss': dict(temperature=TEMPERATURE, loss_weight=WEIGHT),
    'DISTLoss': dict(
        temperature=TEMPERATURE, loss_weight=WEIGHT, inter_weight=WEIGHT, intra_weight=WEIGHT, scale_by_temperature=FLAG
    ),
    'DKDLoss': dict(temperature=TEMPERATURE, loss_weight=WEIGHT, alpha=WEIGHT, beta=WEIGHT),
    'MLKDLoss': dict(
        temperatures=st.lists(TEMPERATURE, min_size=1, max_size=3),
        loss_weight=WEIGHT,
        instance_weight=WEIGHT,
        batch_weight=WEIGHT,
        class_weight=WEIGHT,
        quantile=st.none() | fraction(),
    ),
    'KendallLoss': dict(loss_weight=WEIGHT, smoothing=st.floats(0.05, 5)),
    'CMKDLoss': dict(
        temperature=TEMPERATURE,
        loss_weight=WEIGHT,
        difficulty=st.sampled_from(sorted(losses.DIFFICULTIES)),
        batch_wise=FLAG,
        estimator=st.sampled_from(sorted(ESTIMATORS)),
    ),
}
PLAIN_LOSS = st.one_of([config(name, **fields) for name, fields in PLAIN_LOSSES.items()]).filter(
    lambda loss: loss.get('class_wise', True) or loss.get('batch_wise', True) or loss['type'] == 'CMKDLoss'
)
LOSS = PLAIN_LOSS | st.fixed_dictionaries(dict(type=st.just('LogitStandardization'), loss=PLAIN_LOSS))
LOSS_NAME = st.from_regex(r'[a-z_]{0,4}loss[a-z0-9_]{0,4}', fullmatch=True)

MEAN, STD = 128.0, 64.0  # of the pixels
NORMALISATION = dict(type='mmpretrain.ClsDataPreprocessor', mean=[MEAN] * 3, std=[STD] * 3)
AUGMENTATIONS = {
    'Mixup': dict(alpha=ALPHA, per_image=FLAG),
    'CutMix': dict(alpha=ALPHA, per_image=FLAG),
    'Cutout': dict(length=st.integers(1, 20), per_image=FLAG),
    'AutoAugment': dict(policy=st.sampled_from(POLICIES), per_image=FLAG),
    'CutMixPick': dict(alpha=ALPHA, per_image=FLAG, pick=st.sampled_from(['mixed', 'released'])),
}
AUGMENTATION = st.none() | st.one_of([config(name, **fields) for name, fields in AUGMENTATIONS.items()])
PRUNER = st.none() | config(
    'MagnitudePruner', amount=fraction(exclude_max=True), scope=st.sampled_from(['layer', 'global'])
)
SHARED = dict(augmentation=AUGMENTATION, task_loss_weight=WEIGHT, gather=FLAG)
DISTILLERS = {
    'LogitDistiller': SHARED,
    'R2KD': dict(
        **SHARED, pruner=PRUNER, teacher_weight=fraction(), pruned_teacher_mode=st.sampled_from(['eval', 'train'])
    ),
}


@st.composite
def distillers(draw: st.DrawFn) -> dict[str, Any]:
    """A valid config of a distiller, without its networks."""
    name = draw(st.sampled_from(sorted(DISTILLERS)))
    model = draw(config(name, **DISTILLERS[name]))
    return dict(model, losses=draw(st.dictionaries(LOSS_NAME, LOSS, min_size=1, max_size=3)))


@functools.cache
def networks() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Student and teacher; a distiller gets copies."""
    torch.manual_seed(0)
    network = toys.classifier()
    network['backbone'].update(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    network['head'].update(in_channels=network['backbone']['base_channels'])
    return MODELS.build(network), MODELS.build(network)


def build(model: dict[str, Any]) -> torch.nn.Module:
    student, teacher = copy.deepcopy(networks())
    whole = dict(architecture=student, teacher=teacher, allow_untrained_teacher=True, data_preprocessor=NORMALISATION)
    return MODELS.build(dict(whole, **model))


def test_the_space_holds_every_loss_augmentation_and_distiller():
    loss_types = {name for name in losses.__all__ if isinstance(getattr(losses, name), type)} - {
        'LogitLoss',
        'LossPart',
    }
    assert loss_types == {*PLAIN_LOSSES, 'LogitStandardization'}
    assert set(AUGMENTATIONS) == {
        name
        for name in augmentations.__all__
        if issubclass(getattr(augmentations, name), augmentations.BatchAugmentation)
    } - {'BatchAugmentation'}


@pytest.mark.parametrize('examples', [10, pytest.param(100, marks=pytest.mark.slow)])
def test_any_valid_combination_trains_two_steps(examples, count):
    trained = []

    @settings(EXAMPLES, max_examples=examples)
    @given(distillers())
    def check(fields):
        model = build(fields).train()
        optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
        inputs, data_samples = toys.batch()
        pixels = list((inputs * STD + MEAN).clamp(0, 255))
        for _ in range(2):
            values = model.train_step(dict(inputs=pixels, data_samples=data_samples), optimizer)
            assert all(torch.as_tensor(value).isfinite().all() for value in values.values()), values
        clean = {f'clean.{name}' for name in fields['losses']}
        assert clean <= values.keys()
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        trained.append(fields)

    check()
    count(f'configs: {len(trained)} of {len(trained)} valid distillers trained 2 steps with finite losses')


NO_NUMBERS = (math.nan, math.inf, -math.inf, -1, 'much', [1])
NO_CHOICES = ('unknown', 1)
WRONG = dict(
    # of the losses
    temperature=(*NO_NUMBERS, 0, None),
    loss_weight=(*NO_NUMBERS, None),
    inter_weight=NO_NUMBERS,
    intra_weight=NO_NUMBERS,
    instance_weight=NO_NUMBERS,
    batch_weight=NO_NUMBERS,
    class_weight=NO_NUMBERS,
    beta=NO_NUMBERS,
    temperatures=((), 4.0, [4.0, 0.0], 'warm', None),
    quantile=(-0.1, 1.1, math.nan, 'half'),
    eps=(0.0, *NO_NUMBERS),
    estimator=NO_CHOICES,
    smoothing=(0, *NO_NUMBERS),
    difficulty=NO_CHOICES,
    loss=(None, 'KLDivergenceLoss', dict(type='KLLoss'), dict(temperature=1.0)),
    **dict.fromkeys(('centered', 'class_wise', 'batch_wise', 'scale_by_temperature', 'per_image'), ('no', 1, None)),
    # of the augmentations
    length=(0, -3, 2.5, 'long', None),
    policy=NO_CHOICES,
    pick=NO_CHOICES,
    pool=NO_CHOICES,
    # of the pruner
    amount=(1, *NO_NUMBERS, None),
    scope=NO_CHOICES,
    # of the distillers
    task_loss_weight=(math.nan, -1),
    teacher_weight=(math.nan, -0.1, 1.1),
    pruned_teacher_mode=NO_CHOICES,
    augmentation=('CutMix', dict(alpha=1.0), dict(type='CutMax'), 3),
    pruner=('MagnitudePruner', dict(amount=0.1), dict(type='Pruner'), 3),
    losses=(None, {}, [dict(type='KLDivergenceLoss')], dict(kd=dict(type='KLDivergenceLoss'))),
)
ALPHAS = dict(Mixup=(0, *NO_NUMBERS), CutMix=(0, *NO_NUMBERS), CutMixPick=(0, *NO_NUMBERS), DKDLoss=NO_NUMBERS)


def places() -> list[tuple[str, str, Any]]:
    """Every field of every part with each wrong value for it: type, field, value."""
    parts = {**PLAIN_LOSSES, **AUGMENTATIONS, **DISTILLERS}
    parts['LogitStandardization'] = dict(loss=PLAIN_LOSS)
    parts['MagnitudePruner'] = dict(amount=None, scope=None)
    parts['CutMixPick'] = dict(AUGMENTATIONS['CutMixPick'], pool=None)
    found = []
    for part, fields in parts.items():
        names = [*fields, 'losses'] if part in DISTILLERS else [*fields, 'temprature']
        for name in names:
            values = ALPHAS[part] if name == 'alpha' else (1.0,) if name == 'temprature' else WRONG.get(name, ())
            found += [(part, name, value) for value in values]
    found.remove(('R2KD', 'losses', None))  # the losses of the method
    return found


def spoilt(part: str, name: str, value: Any) -> dict[str, Any]:
    """A distiller with a ``part`` of which one field is wrong."""
    good, wrong = dict(loss_good=dict(type='KLDivergenceLoss')), {'type': part, name: value}
    if part in DISTILLERS:
        return {'losses': good, **wrong}
    if part in AUGMENTATIONS:
        return dict(type='LogitDistiller', losses=good, augmentation=wrong)
    if part == 'MagnitudePruner':
        return dict(type='R2KD', losses=good, pruner=wrong)
    return dict(type='LogitDistiller', losses=dict(good, loss_wrong=wrong))


@pytest.mark.parametrize('part', sorted({part for part, _, _ in places()}))
def test_a_single_wrong_field_is_named_before_the_first_step(part, count):
    cases = [(name, value) for kind, name, value in places() if kind == part]
    for name, value in cases:
        with pytest.raises((ValueError, TypeError)) as error:
            build(spoilt(part, name, value))
        message = str(error.value)
        entries = value if isinstance(value, (dict, list)) else ()  # one of them may be what is wrong
        assert any(word in message for word in (name, repr(value), *map(repr, entries))), (name, value, message)
    count(f'configs: {len(cases)} of {len(cases)} wrong fields of {part} named')
