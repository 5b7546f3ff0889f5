"""Before the first step, a run checks that its losses have a gradient for its number of classes and its batch size."""

import re

import pytest
import torch
import toys
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader

from r2kd_mm.hooks.teaching import batch_sizes, check_losses
from r2kd_mm.registry import MODELS

KL = dict(type='KLDivergenceLoss')
SPEARMAN = dict(type='RankDistanceLoss')
COLUMNS = dict(type='CorrelationDistanceLoss', class_wise=False)


class Log(list):
    """Keeps the warnings."""

    warning = list.append


def check(loss, classes=5, images=40, batch_size=10, processes=1, drop_last=False, **fields):
    """The warnings of a distiller with this loss and these sizes."""
    distiller = MODELS.build(
        dict(
            type='LogitDistiller',
            architecture=toys.classifier(classes, width=1),
            teacher=toys.classifier(classes, width=1),
            allow_untrained_teacher=True,
            losses=dict(loss_kd=loss),
            **fields,
        )
    )
    dataset = toys.Images(images)
    sampler = DefaultSampler(dataset)
    loader = DataLoader(dataset, batch_size, sampler=sampler, drop_last=drop_last)
    log = Log()
    check_losses(distiller, classes, loader, processes, log)
    return log


@pytest.mark.parametrize(
    'loss',
    [
        SPEARMAN,
        dict(type='RankDistanceLoss', estimator='blackbox'),
        dict(type='KendallLoss'),
        dict(type='CMKDLoss'),
        dict(type='LogitStandardization', loss=KL),
        dict(type='LogitStandardization', loss=dict(type='torch.nn.MSELoss')),
        dict(type='DISTLoss', intra_weight=0),
        dict(type='DKDLoss', alpha=0),
    ],
    ids=str,
)
def test_a_loss_without_a_gradient_for_two_classes_is_refused_and_three_pass(loss):
    message = f'loss_kd teaches nothing with 2 classes: the gradient of {loss["type"]} is exactly zero there ('
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        check(loss, classes=2)
    assert str(error.value).endswith(
        'or take a loss that teaches with 2 classes: KLDivergenceLoss, CorrelationDistanceLoss, DKDLoss or MLKDLoss'
    )
    assert check(loss, classes=3) == []


@pytest.mark.parametrize('loss', [KL, dict(type='CorrelationDistanceLoss'), dict(type='MLKDLoss')], ids=str)
def test_what_teaches_two_classes_passes_and_one_class_is_refused(loss):
    assert check(loss, classes=2) == []
    with pytest.raises(ValueError, match=r'teaches nothing with 1 class: .*; give the head at least 2 classes'):
        check(loss, classes=1)


def test_a_part_without_a_gradient_is_warned_of():
    assert check(dict(type='DISTLoss'), classes=2) == [
        'A part of loss_kd teaches nothing with 2 classes: classes of an image: from 3 classes.'
    ]
    assert check(dict(type='DKDLoss'), classes=2) == [
        'A part of loss_kd teaches nothing with 2 classes: classes other than the target: from 3 classes.'
    ]
    assert check(dict(type='CorrelationDistanceLoss'), batch_size=1) == [
        'A part of loss_kd teaches nothing with 1 image a batch: images of a class: from 2 images.'
    ]


def test_a_loss_over_the_batch_is_refused_where_every_batch_is_too_small():
    message = 'loss_kd teaches nothing with 1 image a batch: .*; take a larger train_dataloader.batch_size'
    with pytest.raises(ValueError, match=message):
        check(COLUMNS, batch_size=1)
    with pytest.raises(ValueError, match=message):
        check(COLUMNS, images=1)
    with pytest.raises(ValueError, match='teaches nothing with 2 images a batch'):
        check(dict(COLUMNS, centered=True), batch_size=2)
    assert check(COLUMNS, batch_size=2) == []


def test_the_batches_of_all_processes_count_where_they_are_gathered():
    assert check(COLUMNS, batch_size=1, processes=2) == []
    with pytest.raises(ValueError, match='with 1 image a batch'):
        check(COLUMNS, batch_size=1, processes=2, gather=False)


def test_a_last_batch_that_is_too_small_is_warned_of():
    (warning,) = check(COLUMNS, images=41)
    assert warning == (
        'loss_kd teaches less in the last batch of an epoch, of 1 image: images of a class: from 2 images; set '
        'drop_last=True in train_dataloader to leave it out.'
    )
    assert check(COLUMNS, images=41, drop_last=True) == check(COLUMNS, images=42) == check(KL, images=41) == []


def test_a_value_without_gradient_is_warned_of_and_refused_on_its_own():
    hard = dict(SPEARMAN, estimator='hard')
    with pytest.raises(ValueError, match='nothing in this run teaches: loss_kd by its settings is a value without'):
        check(hard)
    augmentation = dict(type='Cutout', length=3)
    assert check(KL, augmentation=augmentation, consistency=hard) == [
        'consistency trains nothing: by its settings it is a value without gradient, and only logged.'
    ]


def test_a_consistency_loss_is_looked_at_as_well():
    augmentation = dict(type='Cutout', length=3)
    with pytest.raises(ValueError, match='consistency teaches nothing with 2 classes'):
        check(KL, classes=2, augmentation=augmentation, consistency=SPEARMAN)


def test_a_loss_of_another_package_passes():
    assert check(dict(type='mmrazor.KLDivergence', tau=4), classes=2, batch_size=1) == []


def test_sizes_of_batches():
    dataset = toys.Images(41)
    for fields, sizes in (
        (dict(batch_size=10), (10, 1)),
        (dict(batch_size=10, drop_last=True), (10, 10)),
        (dict(batch_size=41), (41, 41)),
        (dict(batch_size=64), (41, 41)),
        (dict(batch_size=10, sampler=InfiniteSampler(dataset)), (10, 10)),
        (dict(batch_sampler=[[0, 1], [2]]), (None, None)),
    ):
        assert batch_sizes(DataLoader(dataset, **fields)) == sizes
    stream = torch.utils.data.ChainDataset([])
    assert batch_sizes(DataLoader(stream, batch_size=10)) == (10, 10)


@pytest.mark.parametrize('states_classes', [True, False])
def test_a_run_is_stopped_before_its_first_step(tmp_path, states_classes):
    model = dict(
        type='LogitDistiller',
        architecture=toys.classifier(2),
        teacher=toys.classifier(2),
        allow_untrained_teacher=True,
        losses=dict(loss_kd=KL, loss_rank=SPEARMAN),
    )
    data = dict(train_data=toys.Images(num_classes=2), val_data=toys.Images(num_classes=2))
    runner = toys.runner(model, tmp_path, hooks=[dict(type='DataCheckHook')], **data)
    if not states_classes:  # the data set does
        del runner.model.architecture.head.num_classes
    with pytest.raises(
        ValueError, match=r'loss_rank teaches nothing with 2 classes.*\(ranks of the classes: from 3 cl'
    ):
        runner.train()
    assert runner.iter == 0
