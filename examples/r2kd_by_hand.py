"""Implement R2KD in one file of plain PyTorch: teacher, its pruned copy, augmented images, losses, training step.

Run it on the handwritten digits of scikit-learn, in less than a minute on a CPU::

    python examples/r2kd_by_hand.py

The method is that of Kim et al., IEEE TKDE 36(12), 2024, doi 10.1109/TKDE.2024.3438074, with two choices of ours. The
ranks of the student's logits are soft, because the exact ranks of the released code have no gradient. The images are
augmented by CutMix, one of the paper's five augmentations. ``r2kd_mm.distillers.R2KD`` computes the same step;
``tests/examples`` compares the two after three steps.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

TEMPERATURE = 4.0
TEACHER_WEIGHT = 0.7  # share of the full teacher; its pruned copy has the rest
PRUNED_SHARE = 0.1  # of the weights of each layer
SMOOTHING = 0.1  # of the soft ranks, in standard deviations of the logits


def prune_copy(teacher: nn.Module) -> nn.Module:
    """Copy the trained teacher and set the smallest weights of each layer to zero, but no bias or batch norm."""
    pruned = copy.deepcopy(teacher)
    for module in pruned.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.l1_unstructured(module, 'weight', amount=PRUNED_SHARE)
            prune.remove(module, 'weight')
    return pruned


def cutmix(images: Tensor, generator: torch.Generator) -> Tensor:
    """Paste one random box of a random partner into each image. The box has a random share of the area, 0 to 1."""
    height, width = images.shape[-2:]
    partner = torch.randperm(len(images), generator=generator)
    side = torch.rand((), generator=generator).sqrt()
    size = [int(side * height), int(side * width)]
    top, left = (int(torch.randint(n, (), generator=generator)) - s // 2 for n, s in zip((height, width), size))
    rows = slice(max(top, 0), top + size[0])
    columns = slice(max(left, 0), left + size[1])
    view = images.clone()
    view[..., rows, columns] = images[partner][..., rows, columns]
    return view


def value_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compare the class probabilities by their cosine: in each image over classes, and in each class over images."""
    p, q = ((logits / TEMPERATURE).softmax(dim=1) for logits in (student_logits, teacher_logits))
    distance = (1 - F.cosine_similarity(p, q, dim=1)).mean() + (1 - F.cosine_similarity(p, q, dim=0)).mean()
    return 2 * TEMPERATURE**2 * distance


def rank_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compare the order of the classes: one minus Spearman's correlation, with ranks of the student that train."""
    z = (student_logits - student_logits.mean(1, keepdim=True)) / student_logits.std(1, correction=0, keepdim=True)
    student_rank = ((z[:, :, None] - z[:, None, :]) / SMOOTHING).sigmoid().sum(dim=2)  # how many classes are below
    teacher_rank = teacher_logits.argsort(dim=1).argsort(dim=1).to(z)
    student_rank, teacher_rank = (rank - rank.mean(1, keepdim=True) for rank in (student_rank, teacher_rank))
    return 2 * (1 - F.cosine_similarity(student_rank, teacher_rank, dim=1).mean())


def r2kd_losses(
    student: nn.Module, teacher: nn.Module, pruned: nn.Module, images: Tensor, labels: Tensor, view: Tensor
) -> dict[str, Tensor]:
    """Return the five losses of one step. The labels act on the clean images only."""
    losses = {}
    for name, inputs in (('clean', images), ('augmented', view)):
        with torch.no_grad():
            teacher_logits = TEACHER_WEIGHT * teacher(inputs) + (1 - TEACHER_WEIGHT) * pruned(inputs)
        student_logits = student(inputs)
        if name == 'clean':
            losses['task'] = F.cross_entropy(student_logits, labels)
        losses[f'{name}.value'] = value_loss(student_logits, teacher_logits)
        losses[f'{name}.rank'] = rank_loss(student_logits, teacher_logits)
    return losses


def network(width: int) -> nn.Sequential:
    """Build a classifier of 8x8 digits."""
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.Conv2d(width, 2 * width, 3, padding=1, stride=2), nn.BatchNorm2d(2 * width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def train(model: nn.Module, images: Tensor, labels: Tensor, losses_of_step, epochs: int, seed: int = 0) -> None:
    """Train ``model`` in place by the sum of the losses that ``losses_of_step(images, labels, generator)`` returns."""
    steps_an_epoch = -(-len(images) // 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * steps_an_epoch)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(32):
            loss = sum(losses_of_step(images[batch], labels[batch], generator).values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    model.eval()


def main(epochs: int = 60) -> None:
    """Train a teacher, the student alone and the student by R2KD on 300 digits; print the accuracy on the others."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    train_images, train_labels, test_images, test_labels = images[:300], labels[:300], images[300:], labels[300:]

    def report(name: str, model: nn.Module) -> None:
        with torch.no_grad():
            accuracy = 100 * (model(test_images).argmax(1) == test_labels).float().mean()
        print(f'{name:<14} {sum(p.numel() for p in model.parameters()):>7,} parameters  {accuracy:.2f} %')

    def supervised(model: nn.Module):
        return lambda images, labels, _: {'task': F.cross_entropy(model(images), labels)}

    torch.manual_seed(0)
    teacher = network(64)
    train(teacher, train_images, train_labels, supervised(teacher), epochs)
    report('teacher', teacher)

    start = network(4)
    alone = copy.deepcopy(start)
    train(alone, train_images, train_labels, supervised(alone), epochs)
    report('student alone', alone)

    student = copy.deepcopy(start)
    pruned = prune_copy(teacher)

    def distilled(images: Tensor, labels: Tensor, generator: torch.Generator):
        return r2kd_losses(student, teacher, pruned, images, labels, cutmix(images, generator))

    train(student, train_images, train_labels, distilled, epochs)
    report('student, R2KD', student)


if __name__ == '__main__':
    main()
