"""Published accuracies of public teachers, with the source of each number.

Top-1 accuracy in percent on the test set (CIFAR-100) or the validation set (ImageNet). The CIFAR-100 numbers are those
that Tian et al. (arXiv 1910.10699) report for the public checkpoints of the zoo, and that most later papers repeat. No
accuracies of public Tiny-ImageNet teachers are known to us.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

CRD = 'Tian et al., ICLR 2020, arXiv 1910.10699, Tables 1 and 2'
MMPRETRAIN = 'model zoo of mmpretrain 1.2.0'


@dataclass(frozen=True)
class PublishedTeacher:
    """Top-1 accuracy in percent, the number of images it was measured on, and who says so."""

    accuracy: float
    images: int
    source: str


TEACHERS = {
    'cifar100/resnet56': PublishedTeacher(72.34, 10_000, CRD),
    'cifar100/resnet110': PublishedTeacher(74.31, 10_000, CRD),
    'cifar100/resnet32x4': PublishedTeacher(79.42, 10_000, CRD),
    'cifar100/resnet50': PublishedTeacher(79.34, 10_000, CRD),
    'cifar100/wrn_40_2': PublishedTeacher(75.61, 10_000, CRD),
    'cifar100/vgg13': PublishedTeacher(74.64, 10_000, CRD),
    'imagenet/resnet34': PublishedTeacher(73.62, 50_000, MMPRETRAIN),
    'imagenet/resnet50': PublishedTeacher(76.55, 50_000, MMPRETRAIN),
}


def published_teacher(name: str) -> PublishedTeacher:
    """Look a teacher up by ``'<data set>/<network>'``.

    Raises:
        ValueError: No number of this teacher is known.
    """
    if name in TEACHERS:
        return TEACHERS[name]
    close = difflib.get_close_matches(name, TEACHERS)
    hint = f'did you mean {" or ".join(map(repr, close))}?' if close else f'known: {", ".join(TEACHERS)}'
    raise ValueError(f'no published accuracy of {name!r} is known; {hint}')
