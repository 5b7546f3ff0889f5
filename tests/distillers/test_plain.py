"""The plain PyTorch class ``Distillation`` gives the losses and gradients of the MMEngine models."""

import copy
import threading

import pytest
import torch
import toys
from ranks import run_on_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from r2kd_mm.augmentations import BatchAugmentation, Cutout, Mixup
from r2kd_mm.distillers import R2KD, Distillation, LogitDistiller
from r2kd_mm.losses import CorrelationDistanceLoss, DISTLoss, DKDLoss, KLDivergenceLoss
from r2kd_mm.pruning import MagnitudePruner


class Flip(BatchAugmentation):
    """A view without draws."""

    keeps_labels = True

    def __call__(self, images, context):
        return images.flip(-1)


def double_batch():
    images, samples = toys.batch()
    return images.double(), samples


def plain_batch(size=6, double=False):
    images, samples = toys.batch(size)
    return images.double() if double else images, torch.cat([sample.gt_label for sample in samples])


def network(width=4):
    """A network of no library, from images to logits."""
    layers = [nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, toys.NUM_CLASSES))


def pair():
    torch.manual_seed(0)
    return network(), network(8)


def terms_and_gradients(losses, parameters):
    gradients = torch.autograd.grad(sum(losses.values()), list(parameters))
    return {name: loss.detach() for name, loss in losses.items()}, gradients


@pytest.mark.parametrize(
    ('model', 'plain'),
    [
        (dict(losses=dict(loss_kd=KLDivergenceLoss(4.0))), dict()),
        (
            dict(losses=dict(loss_dkd=DKDLoss(), loss_dist=DISTLoss()), augmentation=Flip(), task_loss_weight=0.5),
            dict(view=Flip(), task_loss_weight=0.5),
        ),
        (
            dict(losses=dict(loss_kd=KLDivergenceLoss()), augmentation=Flip(), consistency=KLDivergenceLoss(2.0)),
            dict(view=Flip(), consistency=KLDivergenceLoss(2.0)),
        ),
    ],
    ids=['KD', 'two losses on two views', 'consistency'],
)
def test_equals_the_mmengine_model(model, plain):
    torch.manual_seed(0)
    distiller = LogitDistiller(
        toys.classifier(), toys.classifier(width=8), allow_untrained_teacher=True, **copy.deepcopy(model)
    )
    distiller.train().double()
    student, teacher = copy.deepcopy(distiller.architecture), copy.deepcopy(distiller.teacher)
    expected = terms_and_gradients(distiller.loss(*double_batch()), distiller.architecture.parameters())
    distillation = Distillation(student, teacher, model['losses'], **plain)
    found = terms_and_gradients(distillation(*plain_batch(double=True)), student.parameters())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_r2kd_is_the_method():
    torch.manual_seed(0)
    model = R2KD(toys.classifier(), toys.classifier(width=8), allow_untrained_teacher=True).train().double()
    student, teacher = copy.deepcopy(model.architecture), copy.deepcopy(model.teacher)
    torch.manual_seed(7)
    expected = terms_and_gradients(model.loss(*double_batch()), model.architecture.parameters())
    distillation = Distillation.r2kd(student, teacher)
    torch.manual_seed(7)  # of the views
    found = terms_and_gradients(distillation(*plain_batch(double=True)), student.parameters())
    assert sorted(found[0]) == [
        'augmented.loss_rank', 'augmented.loss_value', 'clean.loss_rank', 'clean.loss_value', 'student.loss'
    ]  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_target_is_the_weighted_mean_of_teacher_and_pruned_copy():
    student, teacher = pair()
    weights = copy.deepcopy(teacher.state_dict())
    distillation = Distillation(
        student, teacher, {'loss_kd': KLDivergenceLoss()}, pruner=MagnitudePruner(0.5), teacher_weight=0.6
    )
    images, _ = plain_batch()
    pruned, _ = MagnitudePruner(0.5)(teacher)
    expected = 0.6 * teacher.eval()(images) + 0.4 * pruned.eval()(images)
    torch.testing.assert_close(distillation.targets.logits(images), expected)
    assert all(torch.equal(value, weights[name]) for name, value in teacher.state_dict().items())


class Locked:
    """A function of images that cannot be copied, as a session of another runtime."""

    def __init__(self, network):
        self.network = network
        self.lock = threading.Lock()

    def __call__(self, images):
        with self.lock:
            return self.network.eval()(images)


def test_any_function_can_teach():
    student, teacher = pair()
    losses = {'loss_kd': KLDivergenceLoss()}
    by_function = Distillation(student, lambda images: {'logits': teacher.eval()(images)}, losses)
    by_network = Distillation(copy.deepcopy(student), teacher, losses, engine='plain')
    torch.testing.assert_close(by_function(*plain_batch()), by_network(*plain_batch()))
    locked = Locked(teacher)
    by_object = Distillation(copy.deepcopy(student), locked, losses).to(torch.float32)
    torch.testing.assert_close(by_object(*plain_batch()), by_network(*plain_batch()))
    with pytest.raises(TypeError, match='only a network can be pruned, got the teacher .*; set pruner=None'):
        Distillation(student, lambda images: images, losses, pruner=MagnitudePruner())


def test_the_teacher_is_frozen_and_the_module_holds_the_student_alone():
    student, teacher = pair()
    module = Distillation.r2kd(student, teacher).as_module().train()
    assert not any(layer.training for layer in teacher.modules())
    assert [id(parameter) for parameter in module.parameters()] == [id(each) for each in student.parameters()]
    sum(module(*plain_batch()).values()).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    module.double()
    images, labels = plain_batch()
    assert all(loss.dtype == torch.float64 for loss in module(images.double(), labels).values())


def test_auto_augment_is_told_how_the_images_were_normalised():
    mean, std = torch.tensor([120.0, 121.0, 122.0]), torch.full((3,), 60.0)
    seen = []

    class Note(Cutout):
        def __call__(self, images, context):
            seen.append((context.mean, context.std))
            return super().__call__(images, context)

    student, teacher = pair()
    losses = {'loss_kd': KLDivergenceLoss()}
    Distillation(student, teacher, losses, view=Note(3), mean=mean, std=std)(*plain_batch())
    Distillation(student, teacher, losses, view=Note(3))(*plain_batch())
    assert torch.equal(seen[0][0], mean[:, None, None])
    assert torch.equal(seen[0][1], std[:, None, None])
    assert seen[1] == (None, None)


def gradient_on_ranks(sizes):
    """Gradient of the student after one step, of this rank's part of ten images."""
    student, teacher = pair()
    losses = {'loss_value': CorrelationDistanceLoss(), 'loss_kd': KLDivergenceLoss()}
    module = Distillation(student.double(), teacher.double(), losses, view=Flip()).as_module().eval()
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    wrapped = DistributedDataParallel(module) if torch.distributed.is_initialized() else module
    images, labels = plain_batch(10)
    part = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    sum(wrapped(images[part].double(), labels[part]).values()).backward()
    return [parameter.grad for parameter in student.parameters()]


def test_the_gradient_does_not_depend_on_the_processes():
    (expected,) = [gradient_on_ranks([10])]
    for found in run_on_ranks(2, gradient_on_ranks, [3, 7]):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ('fields', 'error', 'message'),
    [
        (dict(losses={}), ValueError, 'losses must be a dict of at least one named loss'),
        (dict(losses=dict(kd=KLDivergenceLoss())), ValueError, "must contain 'loss'.*call it 'loss_kd'"),
        (dict(teacher_weight=1.5), ValueError, r'teacher_weight is the share .* got 1.5'),
        (dict(task_loss_weight=-1), ValueError, 'task_loss_weight must be a finite number of 0 or more, got -1'),
        (dict(consistency=KLDivergenceLoss()), ValueError, 'give an augmentation as well'),
        (dict(consistency=KLDivergenceLoss(), view=Mixup()), ValueError, 'which Mixup makes of several images'),
        (dict(engine='quick'), ValueError, "teacher_engine must be one of .* got 'quick'"),
        (dict(student=nn.Sequential(network(), nn.Softmax(dim=1))), ValueError, 'the student ends in a Softmax'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_refuses_what_does_not_fit(fields, error, message):
    student, teacher = pair()
    fields = dict(dict(student=student, teacher=teacher, losses={'loss_kd': KLDivergenceLoss()}), **fields)
    with pytest.raises(error, match=message):
        Distillation(**fields)


def test_labels_are_asked_for_only_where_a_loss_needs_them():
    student, teacher = pair()
    distillation = Distillation(
        student, teacher, {'loss_kd': KLDivergenceLoss()}, task_loss=lambda logits, labels: logits.square().mean()
    )
    images, _ = plain_batch()
    with pytest.raises(ValueError, match=r'needs labels, and the batch has none; give labels of shape \(N,\)'):
        distillation(images)
