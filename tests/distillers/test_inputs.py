"""A student config may state its own normalisation and batch augments: the distiller adopts them or refuses them."""

import numpy as np
import pytest
import torch
import toys
from mmengine.registry import DefaultScope

from r2kd_mm.registry import MODELS

MIXUP = dict(type='Mixup', alpha=1.0)
SHARED = dict(type='ClsDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3)


def distiller(student: dict, data_preprocessor: dict | None = SHARED, **fields):
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        return MODELS.build(
            dict(
                type='LogitDistiller',
                architecture=toys.classifier(**student),
                teacher=toys.classifier(),
                allow_untrained_teacher=True,
                losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
                data_preprocessor=data_preprocessor,
                **fields,
            )
        )


def prepared(model):
    inputs, samples = toys.batch()
    np.random.seed(3)  # from which mmpretrain draws
    torch.manual_seed(0)
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), training=True)
    return (inputs - 1) / 2, data['inputs'], data['data_samples']


def test_augments_of_the_student_act_in_the_preprocessor_of_the_run():
    model = distiller(dict(train_cfg=dict(augments=MIXUP)))
    clean, mixed, samples = prepared(model)
    assert (mixed - clean).abs().max() > 0.1
    assert samples[0].gt_score.shape == (toys.NUM_CLASSES,)
    assert samples[0].gt_score.sum() == pytest.approx(1)
    assert 0 < samples[0].gt_score.max() < 1
    losses = model.loss(mixed, samples)
    assert torch.isfinite(losses['student.loss'])


def test_they_are_those_of_the_run_where_it_states_the_same():
    ours = distiller({}, dict(SHARED, batch_augments=dict(augments=MIXUP), num_classes=toys.NUM_CLASSES))
    theirs = distiller(dict(train_cfg=dict(augments=MIXUP)))
    assert torch.equal(prepared(ours)[1], prepared(theirs)[1])


def test_without_any_the_images_are_only_normalised():
    clean, given, _ = prepared(distiller({}))
    assert torch.equal(clean, given)


def test_a_student_may_state_what_the_run_states_or_all_of_it():
    distiller(dict(data_preprocessor=dict(SHARED)))
    alone = distiller(dict(data_preprocessor=dict(SHARED), train_cfg=dict(augments=MIXUP)), None)
    assert alone.data_preprocessor is alone.architecture.data_preprocessor


@pytest.mark.parametrize(
    ('student', 'message'),
    [
        (
            dict(mean=[3.0] * 3, std=[2.0] * 3),
            r"states \{'mean': \[3.0, 3.0, 3.0\]\}, and .* run \{'mean': \[1.0, 1.0, 1.0\]\}",
        ),
        (dict(to_rgb=True), r"states \{'to_rgb': True\}, and .* \{'to_rgb': False\}"),
        (dict(pad_size_divisor=32), r"states \{'pad_size_divisor': 32\}, and .* \{'pad_size_divisor': None\}"),
    ],
)
def test_another_preparation_is_refused(student, message):
    with pytest.raises(ValueError, match=message):
        distiller(dict(data_preprocessor=student))


def test_augments_in_both_places_are_refused():
    with pytest.raises(ValueError, match='cannot be taken over by the ClsDataPreprocessor .* give them once'):
        distiller(
            dict(train_cfg=dict(augments=MIXUP)),
            dict(SHARED, batch_augments=dict(augments=dict(type='CutMix', alpha=1.0)), num_classes=5),
        )


def test_augments_that_come_from_the_student_exclude_a_replay_too(tmp_path):
    with pytest.raises(ValueError, match='leave batch_augments or replay out'):
        distiller(dict(train_cfg=dict(augments=MIXUP)), replay=dict(folder=str(tmp_path)))
