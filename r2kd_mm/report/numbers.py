"""What the figures show, computed from logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from mmpretrain.evaluation import ConfusionMatrix, SingleLabelMetric
from numpy.typing import NDArray
from torch import Tensor

from r2kd_mm.functional import entropy


class Agreement(NamedTuple):
    """Share of images, in percent, on which a student names the class that the teacher names.

    Attributes:
        everywhere: Of all images.
        where_right: Of those on which the teacher is right; NaN where there is none.
        where_wrong: Of those on which it is wrong, likewise.
    """

    everywhere: float
    where_right: float
    where_wrong: float


def entropies(logits: Tensor) -> NDArray[np.float64]:
    """Entropy of each row's softmax in nats, shape ``(N,)``, from 0 to ``log C``."""
    return entropy(logits.double()).numpy()


def class_accuracies(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Share of the images of each class that are predicted right, in percent, ``(C,)``; NaN for a class without images.

    It is the recall of mmpretrain's ``SingleLabelMetric``.
    """
    ((_, recall, _, support),) = SingleLabelMetric.calculate(logits, labels, thrs=(None,), average=None)
    return np.where(support.numpy() > 0, recall.double().numpy(), np.nan)


def confusions(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Share of the images of class ``i`` that are taken for class ``j``, in percent, ``(C, C)``; 0 on the diagonal."""
    counts = ConfusionMatrix.calculate(logits, labels, num_classes=logits.shape[1]).double().numpy()
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    return shares


def most_confused(shares: NDArray[np.float64], count: int) -> list[tuple[int, int]]:
    """The ``count`` pairs (class, what it is taken for) of the largest ``shares``, largest first; none that is 0."""
    order = np.argsort(-shares, axis=None, kind='stable')[:count]
    pairs = [divmod(int(place), shares.shape[1]) for place in order]
    return [pair for pair in pairs if shares[pair] > 0]


def agreement(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Agreement:
    """Agreement of the predictions of two networks, see :class:`Agreement`."""
    predicted = teacher_logits.argmax(dim=1)
    same, right = student_logits.argmax(dim=1) == predicted, predicted == labels
    return Agreement(*(100 * same[where].double().mean().item() for where in (right | ~right, right, ~right)))
