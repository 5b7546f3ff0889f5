"""Compute entropies, class accuracies, confusions, agreement and calibration bins from logits.

Also format the mean, spread and confidence interval of accuracies as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmpretrain.evaluation import ConfusionMatrix, SingleLabelMetric
from numpy.typing import NDArray
from torch import Tensor

from r2kd_mm import functional
from r2kd_mm.metrics import CalibrationBins, calibration_bins
from r2kd_mm.moved import old_names
from r2kd_mm.report.table import format_spread
from r2kd_mm.runs import spread
from r2kd_mm.runs.statistics import seed_interval, wilson_interval

__getattr__ = old_names(__name__)

NUM_BINS = 15


class Agreement(NamedTuple):
    """Share of images, in percent, on which student and teacher predict the same class.

    Attributes:
        everywhere: Share of all images.
        where_right: Share of the images that the teacher classifies correctly; NaN without such images.
        where_wrong: Share of the images that the teacher classifies wrongly; NaN without such images.

    Example:
        >>> Agreement(everywhere=90.0, where_right=95.0, where_wrong=40.0).where_right
        95.0
    """

    everywhere: float
    where_right: float
    where_wrong: float


def entropies(logits: Tensor) -> NDArray[np.float64]:
    """Compute the entropy of the softmax of each row in nats, shape ``(N,)``, from 0 to ``log C``.

    Example:
        >>> entropies(torch.zeros(1, 2)).round(4)  # log 2
        array([0.6931])
    """
    return functional.entropy(logits.double()).numpy()


def class_accuracies(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Compute the accuracy of each class in percent, shape ``(C,)``; NaN for a class without images.

    It is the recall of mmpretrain's ``SingleLabelMetric``.

    Example:
        >>> class_accuracies(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])).tolist()
        [100.0, 0.0]
    """
    ((_, recall, _, support),) = SingleLabelMetric.calculate(logits, labels, thrs=(None,), average=None)
    return np.where(support.numpy() > 0, recall.double().numpy(), np.nan)


def confusion_matrix(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Compute the share of the images of class ``i`` that are predicted as ``j``, in percent.

    Example:
        >>> confusion_matrix(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])).tolist()
        [[100.0, 0.0], [100.0, 0.0]]
    """
    counts = ConfusionMatrix.calculate(logits, labels, num_classes=logits.shape[1]).double().numpy()
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def confusions(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Compute the :func:`confusion_matrix` with 0 on its diagonal.

    Example:
        >>> confusions(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])).tolist()
        [[0.0, 0.0], [100.0, 0.0]]
    """
    shares = confusion_matrix(logits, labels)
    np.fill_diagonal(shares, 0)
    return shares


def surest_errors(logits: Tensor, labels: Tensor, count: int) -> list[int]:
    """Return the places of at most ``count`` wrong predictions, the most confident first.

    Example:
        >>> surest_errors(torch.tensor([[9.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1, 1]), count=1)
        [2]
    """
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    confidence[predicted == labels] = -1
    order = confidence.argsort(descending=True, stable=True).tolist()
    return [place for place in order[:count] if confidence[place] >= 0]


def interval_text(values: Sequence[float], num_images: int | None) -> str:
    """Format the 95 % interval of a mean accuracy, and say what it covers; a dash where neither is known.

    Args:
        values: Accuracy of each seed in percent.
        num_images: Number of images that it was counted on; ``None`` where that is not known.

    >>> interval_text([70.0], 200), interval_text([70.0, 71.0, 72.0], 200)
    ('63.3 to 75.9, 200 images', '68.5 to 73.5, 3 seeds')
    """
    over_seeds = seed_interval(values)
    if over_seeds is not None:
        low, high = np.clip(over_seeds, 0, 100)
        return f'{low:.1f} to {high:.1f}, {len(values)} seeds'
    if not len(values) or num_images is None:
        return '–'
    low, high = (100 * bound for bound in wilson_interval(round(np.mean(values) / 100 * num_images), num_images))
    return f'{low:.1f} to {high:.1f}, {num_images} images'


def most_confused(shares: NDArray[np.float64], count: int) -> list[tuple[int, int]]:
    """Return the ``count`` pairs (class, predicted class) with the largest ``shares``, largest first, without 0.

    Example:
        >>> most_confused(np.array([[0.0, 5.0], [20.0, 0.0]]), count=1)
        [(1, 0)]
    """
    order = np.argsort(-shares, axis=None, kind='stable')[:count]
    pairs = [divmod(int(place), shares.shape[1]) for place in order]
    return [pair for pair in pairs if shares[pair] > 0]


def split_agreement(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Agreement:
    """Compute the agreement of a student on all images, and where its teacher is right and wrong.

    Example:
        >>> student, teacher = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> split_agreement(student, teacher, labels=torch.tensor([0, 1]))
        Agreement(everywhere=50.0, where_right=100.0, where_wrong=0.0)
    """
    right = teacher_logits.argmax(dim=1) == labels
    parts = (torch.ones_like(right), right, ~right)
    return Agreement(*(functional.agreement(student_logits[part], teacher_logits[part]) for part in parts))


def bins_of(logits: Tensor, labels: Tensor) -> CalibrationBins:
    """Sort the images into :data:`NUM_BINS` bins by the confidence of a network.

    Example:
        >>> int(bins_of(torch.zeros(3, 10), torch.tensor([0, 1, 2])).counts.sum())
        3
    """
    return calibration_bins(logits.softmax(dim=1), labels, NUM_BINS)


def spread_text(values: Sequence[float]) -> str:
    """Format mean and standard deviation; a dash where there is no value.

    >>> spread_text([70.0, 71.0]), spread_text([70.0]), spread_text([])
    ('70.50 ± 0.71', '70.00', '–')
    """
    if not len(values):
        return '–'
    return format_spread(spread(list(values)))
