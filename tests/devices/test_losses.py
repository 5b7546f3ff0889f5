"""Every loss and augmentation gives the same numbers on the simulated device as on the CPU, without a wait."""

import copy

import pytest
import toolbox
import torch
import toys
from devices import pretend
from losses import test_base

from r2kd_mm.augmentations import ViewContext
from r2kd_mm.augmentations.draws import BatchDraws
from r2kd_mm.registry import MODELS

# Without a wait it cannot tell where the blocks of its averages begin and end.
LOSSES_THAT_WAIT = {'permutahedron'}
AUGMENTATIONS = [
    dict(type='Mixup'),
    dict(type='Mixup', per_image=True),
    dict(type='CutMix'),
    dict(type='CutMix', per_image=True),
    dict(type='Cutout', length=3),
    dict(type='Cutout', length=3, per_image=False),
    dict(type='CutMixPick'),
    dict(type='CutMixPick', pick='released'),
]


def loss_and_gradient(loss, device):
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 8, 10, generator=generator)
    target = torch.arange(8).to(device)
    student, teacher = student.to(device).requires_grad_(), teacher.to(device)
    with pretend.recorded_waits() as waits:
        value = loss(student, teacher, *[target] * loss.needs_target)
        if value.requires_grad:  # hard ranks have no gradient
            value.backward()
    return value.detach().cpu(), None if student.grad is None else student.grad.cpu(), waits


@pytest.mark.parametrize('loss', test_base.TRAINING + test_base.SINGLE_PARTS, ids=test_base.name)
def test_a_loss(loss):
    expected, expected_gradient, _ = loss_and_gradient(copy.deepcopy(loss), 'cpu')
    value, gradient, waits = loss_and_gradient(loss.to(pretend.NAME), pretend.NAME)
    torch.testing.assert_close(value, expected)
    if expected_gradient is not None:
        torch.testing.assert_close(gradient, expected_gradient)
    if LOSSES_THAT_WAIT.isdisjoint(test_base.name(loss).split('-')):
        assert not waits, str(waits[0])


@pytest.mark.parametrize('fields', AUGMENTATIONS, ids=str)
def test_an_augmentation_makes_the_view_of_the_same_draws(fields):
    augmentation = MODELS.build(dict(fields, _scope_='r2kd_mm'))
    images, views = toys.batch(8)[0], []
    for device in ('cpu', pretend.NAME):
        context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), lambda batch: batch.flatten(1)[:, :9])
        moved = images.to(device)
        with pretend.recorded_waits() as waits:
            view = augmentation(moved, context)
        assert not waits, str(waits[0])
        views.append(view.cpu())
    assert torch.equal(*views)


@pytest.mark.parametrize('per_image', toolbox.quick_first([True, False]))
def test_autoaugment_makes_the_view_of_the_same_draws_and_waits_where_it_says(per_image):
    augmentation = MODELS.build(dict(type='AutoAugment', policy='cifar10', per_image=per_image, _scope_='r2kd_mm'))
    images, views = (60 * toys.batch(8)[0] + 128).clamp(0, 255), []
    for device in ('cpu', pretend.NAME):
        mean, std = torch.full((3, 1, 1), 128.0), torch.full((3, 1, 1), 60.0)
        context = ViewContext(BatchDraws(torch.Generator().manual_seed(0)), None, mean=mean, std=std)
        moved = ((images - mean) / std).to(device)
        with pretend.recorded_waits() as waits:
            view = augmentation(moved, context)
        assert {wait.file for wait in waits} <= {'r2kd_mm/augmentations/auto_augment.py'}
        views.append(view.cpu())
    torch.testing.assert_close(*views)
    assert not torch.equal(views[0], (images - mean) / std)
