"""The gradient of a step with unlabelled images equals that of a formula written by hand."""

import pytest
import torch
import toys
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from ranks import run_on_ranks
from torch.nn import functional

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.labels import NO_LABEL, UNLABELLED

KL, DIST = dict(type='KLDivergenceLoss', temperature=2.0), dict(type='DISTLoss')
HIDDEN = (1, 4, 5)


def build(loss=KL, **fields):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        fields = dict(dict(architecture=toys.classifier(), losses=dict(loss_kd=loss)), **fields)
        return LogitDistiller(teacher=toys.classifier(width=8), allow_untrained_teacher=True, **fields).double()


def batch(hidden=HIDDEN, size=6):
    images, samples = toys.batch(size)
    for row in hidden:
        sample = DataSample().set_gt_label(NO_LABEL)
        sample.set_field(True, UNLABELLED, field_type='metainfo')
        samples[row] = sample
    return images.double(), samples


def gradient(model, losses):
    return torch.autograd.grad(model.parse_losses(losses)[0], list(model.architecture.parameters()))


@pytest.mark.parametrize('joint_views', [False, True])
@pytest.mark.parametrize('view', [dict(type='Cutout', length=3), dict(type='CutMix')], ids=['Cutout', 'CutMix'])
def test_the_gradient_is_that_of_the_formula(view, joint_views):
    """CE over the labelled rows, KL over all rows of both views; one forward pass of the student a view."""
    model = build(augmentation=view, joint_views=joint_views, task_loss_weight=0.7)
    images, samples = batch()
    found = gradient(model, model(images, samples, mode='loss'))

    model = build(augmentation=view, joint_views=joint_views, task_loss_weight=0.7)
    views = model.step.make_views(images, ['clean', 'augmented'])
    student, teacher = model.architecture, model.teacher
    if joint_views:
        clean, augmented = student(torch.cat(list(views.values())), mode='tensor').split(6)
    else:
        clean, augmented = (student(seen, mode='tensor') for seen in views.values())
    rows = [row for row in range(6) if row not in HIDDEN]
    labels = torch.tensor([int(samples[row].gt_label) for row in rows])
    total = 0.7 * functional.cross_entropy(clean[rows], labels)
    for logits, seen in ((clean, views['clean']), (augmented, views['augmented'])):
        with torch.no_grad():
            target = (teacher(seen, mode='tensor') / 2).log_softmax(1)
        kl = (target.exp() * (target - (logits / 2).log_softmax(1))).sum() / 6
        total = total + 4 * kl
    expected = torch.autograd.grad(total, list(student.parameters()))
    assert max(value.abs().max() for value in expected) > 1e-3
    for ours, by_hand in zip(found, expected):
        torch.testing.assert_close(ours, by_hand, rtol=1e-9, atol=1e-12)


def test_a_student_of_another_package_too():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).double()
    images, samples = batch()
    losses = build(architecture=dict(type='NetworkClassifier', network=network))(images, samples, mode='loss')
    rows = [0, 2, 3]
    labels = torch.tensor([int(samples[row].gt_label) for row in rows])
    expected = functional.cross_entropy(network(images)[rows], labels)
    assert losses['student.loss'].item() == pytest.approx(expected.item())


def test_the_accuracy_of_the_head_ignores_them():
    architecture = toys.classifier()
    architecture['head']['cal_acc'] = True
    images, samples = batch()
    model = build(architecture=architecture)
    shown = model(images, samples, mode='loss')['student.accuracy_top-1']
    model = build(architecture=architecture)
    rows = [0, 2, 3]
    right = model.architecture(images, mode='tensor').argmax(1)[rows] == torch.tensor(
        [int(samples[row].gt_label) for row in rows]
    )
    assert shown[0].item() == pytest.approx(100 * right.double().mean().item())


def test_a_loss_that_needs_labels_is_refused_in_the_step():
    model = build(dict(type='DKDLoss'))
    with pytest.raises(ValueError, match='needs the labels of all images, and 3 of 6 have none'):
        model(*batch(), mode='loss')


def test_a_batch_without_any_label_is_refused():
    with pytest.raises(ValueError, match='no image of a batch has a label'):
        build()(*batch(range(6)), mode='loss')


def of_processes(loss, split):
    """Loss and gradient of this process's part of a batch of 10, averaged over the processes."""
    import torch.distributed as dist

    rank = dist.get_rank() if dist.is_initialized() else 0
    model = build(loss)
    for module in model.architecture.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()  # its statistics would depend on the processes
    images, samples = batch((0, 1, 2, 5), 10)
    part = slice(sum(split[:rank]), sum(split[: rank + 1]))
    found = gradient(model, model(images[part], samples[part], mode='loss'))
    if dist.is_initialized():
        for value in found:
            dist.all_reduce(value)
    return [value / len(split) for value in found]


@pytest.mark.slow
@pytest.mark.parametrize('loss', [KL, DIST], ids=['of rows', 'of the batch'])
def test_processes_with_unequal_numbers_of_labels_train_as_one(loss):
    expected = of_processes(loss, [10])
    for found in run_on_ranks(2, of_processes, loss, [4, 6]):
        for ours, one in zip(found, expected):
            torch.testing.assert_close(ours, one, rtol=1e-8, atol=1e-11)
