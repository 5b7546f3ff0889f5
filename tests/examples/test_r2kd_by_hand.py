"""``examples/r2kd_by_hand.py`` gives the same weights as ``R2KD`` after three training steps."""

import copy
import re
import runpy
from types import SimpleNamespace

import torch
import toys
from toolbox import ROOT
from torch import nn

from r2kd_mm.augmentations import BatchAugmentation
from r2kd_mm.distillers import R2KD

by_hand = SimpleNamespace(**runpy.run_path(str(ROOT / 'examples' / 'r2kd_by_hand.py')))
NAMES = {
    'task': 'student.loss',
    'clean.value': 'clean.loss_value',
    'clean.rank': 'clean.loss_rank',
    'augmented.value': 'augmented.loss_value',
    'augmented.rank': 'augmented.loss_rank',
}


class GivenView(BatchAugmentation):
    """Make the view that the example makes of the same random numbers."""

    keeps_labels = False

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, images, context):
        return by_hand.cutmix(images, self.generator)


class PlainCopy(nn.Module):
    """A copy of a classifier of mmpretrain as a module from images to logits."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = copy.deepcopy(classifier)

    def forward(self, images):
        return self.classifier(images, mode='tensor')


def test_r2kd_equals_the_example_after_three_steps():
    model = (
        R2KD(
            architecture=toys.classifier(),
            teacher=toys.classifier(width=8),
            allow_untrained_teacher=True,
            augmentation=GivenView(seed=3),
        )
        .train()
        .double()
    )
    student, teacher = PlainCopy(model.architecture).train(), PlainCopy(model.teacher).eval()
    pruned, generator = by_hand.prune_copy(teacher), torch.Generator().manual_seed(3)
    start = copy.deepcopy(student)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.05, momentum=0.9) for each in (model, student)]

    for seed in range(3):
        images, samples = toys.batch(seed=seed)
        images = images.double()
        labels = torch.cat([sample.gt_label for sample in samples])
        losses = model.loss(images, samples)
        expected = by_hand.r2kd_losses(student, teacher, pruned, images, labels, by_hand.cutmix(images, generator))
        torch.testing.assert_close(
            losses, {NAMES[name]: value for name, value in expected.items()}, rtol=1e-9, atol=1e-9
        )
        for optimizer, terms in zip(optimizers, (losses, expected)):
            optimizer.zero_grad()
            sum(terms.values()).backward()
            optimizer.step()

    weights, expected = model.architecture.state_dict(), student.classifier.state_dict()
    torch.testing.assert_close(weights, expected, rtol=1e-7, atol=1e-9)
    moved = (weights['backbone.conv1.weight'] - start.classifier.backbone.conv1.weight).abs().max()
    assert moved > 1e-3, 'the steps did not change the student'


def test_the_example_trains_all_three_networks_on_the_digits(capsys):
    by_hand.main(epochs=4)
    rows = re.findall(r'^(.+?) +([\d,]+) parameters  ([\d.]+) %$', capsys.readouterr().out, re.MULTILINE)
    assert [row[:2] for row in rows] == [('teacher', '76,170'), ('student alone', '450'), ('student, R2KD', '450')]
    chance = 10
    assert all(float(accuracy) > 2 * chance for *_, accuracy in rows), rows
