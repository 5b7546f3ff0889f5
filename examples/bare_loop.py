"""Train a student by R2KD in your own plain PyTorch loop, without MMEngine's Runner and without a config file.

Run it on the handwritten digits of scikit-learn, in less than a minute on a CPU::

    python examples/bare_loop.py

``r2kd_by_hand.py`` next to this file writes out the same step without this library. Replace the networks by any that
map images to logits, and ``Distillation.r2kd(student, teacher)`` by
``Distillation(student, teacher, losses, view=..., pruner=...)`` for another method.
"""

import copy

import torch
from r2kd_by_hand import network, train
from sklearn.datasets import load_digits
from torch import nn

from r2kd_mm.distillers import Distillation


def distil(student: nn.Module, teacher: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Train ``student`` in place, by R2KD."""
    distillation = Distillation.r2kd(student, teacher)
    steps = epochs * -(-len(images) // 32)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    student.train()
    for epoch in range(epochs):
        for batch in torch.randperm(len(images)).split(32):
            losses = distillation(images[batch], labels[batch])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            # the rank term pulls hardest where the student's logits are close to each other, as in the first steps
            nn.utils.clip_grad_norm_(student.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        if (epoch + 1) % 10 == 0:
            print(f'epoch {epoch + 1:>3}', *(f'{name} {loss.item():.3f}' for name, loss in losses.items()), sep='  ')
    student.eval()


def main(epochs: int = 60) -> None:
    """Train a teacher, the student alone and the student by R2KD on 300 digits; print the accuracy on the others."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)

    def supervised(model: nn.Module):
        return lambda images, labels, _: {'task': nn.functional.cross_entropy(model(images), labels)}

    torch.manual_seed(0)
    teacher, student = network(64), network(4)
    alone = copy.deepcopy(student)
    train(teacher, images[:300], labels[:300], supervised(teacher), epochs)
    train(alone, images[:300], labels[:300], supervised(alone), epochs)
    distil(student, teacher, images[:300], labels[:300], epochs)
    for name, model in {'teacher': teacher, 'student alone': alone, 'student, R2KD': student}.items():
        with torch.no_grad():
            accuracy = 100 * (model(images[300:]).argmax(1) == labels[300:]).float().mean()
        print(f'{name:<14} {accuracy:.2f} %')


if __name__ == '__main__':
    main()
