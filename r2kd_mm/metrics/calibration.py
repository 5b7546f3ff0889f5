"""Measure how far the confidence of a classifier is from its accuracy (calibration error).

Also measure the negative log-likelihood of the labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.nn import functional

from r2kd_mm.arguments import check_switches
from r2kd_mm.registry import METRICS

SUM_TOLERANCE = 0.01  # of the probabilities of an image; those of a network in half precision are as far from 1


class CalibrationBins(NamedTuple):
    """Images grouped by confidence, the probability of the predicted class.

    Attributes:
        counts: Number of images of each bin, shape ``(num_bins,)``.
        confidence: Mean confidence of each bin, in ``[0, 1]``; NaN where a bin is empty.
        accuracy: Share of the images of each bin that are predicted right, in ``[0, 1]``; NaN where a bin is empty.

    Example:
        >>> calibration_bins(torch.tensor([[0.75, 0.25]]), torch.tensor([0]), num_bins=1).confidence
        tensor([0.7500], dtype=torch.float64)
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor


def calibration_bins(
    probabilities: Tensor, labels: Tensor, num_bins: int = 15, equal_mass: bool = False
) -> CalibrationBins:
    """Compute confidence and accuracy in bins of confidence, as a reliability diagram shows them.

    >>> bins = calibration_bins(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]), num_bins=2)
    >>> bins.counts, bins.accuracy[1].item()
    (tensor([0, 2]), 0.5)

    Args:
        probabilities: Probability of each class, shape ``(N, C)``; rows sum to 1.
        labels: Class indices, shape ``(N,)``.
        num_bins: Number of bins, >= 1.
        equal_mass: Give every bin the same number of images, up to one. Otherwise the bins ``(0, 1/num_bins]``, ... are
            equally wide.

    Raises:
        ValueError: There is no image, the shapes do not fit, the rows are no probabilities, or ``num_bins`` < 1.
    """
    _check_probabilities(probabilities, labels)
    if not isinstance(num_bins, int) or isinstance(num_bins, bool) or num_bins < 1:
        raise ValueError(f'num_bins must be a whole number of 1 or more, got {num_bins!r}')
    confidence, predicted = probabilities.max(dim=1)
    if equal_mass:
        places = torch.empty_like(predicted)
        places[confidence.argsort(stable=True)] = torch.arange(len(labels), device=labels.device)
        index = places * num_bins // len(labels)
    else:
        inner_edges = torch.linspace(0, 1, num_bins + 1, dtype=confidence.dtype, device=labels.device)[1:-1]
        index = torch.bucketize(confidence, inner_edges)
    counts = torch.bincount(index, minlength=num_bins)
    confidence, correct = (
        torch.bincount(index, values.double(), minlength=num_bins) / counts
        for values in (confidence, predicted == labels)
    )
    return CalibrationBins(counts, confidence, correct)


def calibration_error(bins: CalibrationBins) -> float:
    r"""Compute the expected calibration error of Naeini et al., AAAI 2015.

    The form is Eq. (3) of Guo et al., ICML 2017:

    .. math:: ECE = \sum_b \frac{n_b}{N} \, |acc_b - conf_b|

    In words: the gap between accuracy and confidence of a bin, averaged over the images.

    >>> bins = calibration_bins(torch.tensor([[0.75, 0.25], [0.25, 0.75]]), torch.tensor([0, 0]))
    >>> calibration_error(bins)  # half are right, at a confidence of 3/4
    0.25

    Args:
        bins: See :func:`calibration_bins`.

    Returns:
        A value in ``[0, 1]``; 0 where accuracy and confidence agree in every bin.
    """
    gaps = (bins.accuracy - bins.confidence).abs().nan_to_num()
    return float((gaps * bins.counts).sum() / bins.counts.sum())


class _ProbabilityMetric(BaseMetric):
    """Keep ``pred_score`` and ``gt_label`` of each image, as mmpretrain's ``Accuracy`` does."""

    default_prefix = 'calibration'

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep the scores and the labels of a batch."""
        self.results += [(sample['pred_score'].float().cpu(), sample['gt_label'].cpu()) for sample in data_samples]

    @staticmethod
    def _stack(results: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        scores, labels = zip(*results)
        return torch.stack(scores), torch.cat(labels)


@METRICS.register_module()
class CalibrationError(_ProbabilityMetric):
    """:func:`calibration_error` as ``calibration/ece``, in ``[0, 1]``.

    Args:
        num_bins: Number of bins.
        equal_mass: Bins with the same number of images, instead of equal width.
        collect_device: See :class:`mmengine.evaluator.BaseMetric`.
        prefix: Prefix of the name, ``calibration`` by default.

    Example:
        >>> metric = CalibrationError()
        >>> metric.process(None, [dict(pred_score=torch.tensor([0.75, 0.25]), gt_label=torch.tensor([0]))])
        >>> metric.evaluate(size=1)
        {'calibration/ece': 0.25}
    """

    def __init__(
        self, num_bins: int = 15, equal_mass: bool = False, collect_device: str = 'cpu', prefix: str | None = None
    ) -> None:
        super().__init__(collect_device, prefix)
        check_switches(equal_mass=equal_mass)
        self.num_bins = num_bins
        self.equal_mass = equal_mass

    def compute_metrics(self, results: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Compute the error over all images."""
        bins = calibration_bins(*self._stack(results), self.num_bins, self.equal_mass)
        return dict(ece=calibration_error(bins))


@METRICS.register_module()
class NegativeLogLikelihood(_ProbabilityMetric):
    """Mean of ``-log p(label)`` over the images, in nats, as ``calibration/nll``.

    A probability of 0, after underflow, counts as the smallest normal number of float32. It costs 87 nats.

    Example:
        >>> metric = NegativeLogLikelihood()
        >>> metric.process(None, [dict(pred_score=torch.tensor([0.5, 0.5]), gt_label=torch.tensor([0]))])
        >>> round(metric.evaluate(size=1)['calibration/nll'], 4)  # log 2
        0.6931
    """

    def compute_metrics(self, results: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Compute the mean over all images."""
        probabilities, labels = self._stack(results)
        _check_probabilities(probabilities, labels)
        log_probabilities = probabilities.clamp_min(torch.finfo(torch.float32).tiny).double().log()
        return dict(nll=functional.nll_loss(log_probabilities, labels).item())


def _check_probabilities(probabilities: Tensor, labels: Tensor) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            'calibration needs probabilities (N, C) and labels (N,) of at least one image, got shapes '
            f'{tuple(probabilities.shape)} and {tuple(labels.shape)}'
        )
    off = (probabilities.double().sum(dim=1) - 1).abs().max().item()
    if not (probabilities.min() >= 0 and off <= SUM_TOLERANCE):
        raise ValueError(
            f'calibration needs the probabilities of one label, which sum to 1, got rows with a smallest value of '
            f'{probabilities.min().item():.3g} and sums up to {off:.3g} off; give it the softmax of the logits'
        )
