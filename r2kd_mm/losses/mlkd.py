"""Compute the multi-level logit distillation loss (MLKD), summed over several temperatures.

Three levels compare student and teacher: class probabilities, similarities of images, and similarities of classes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from r2kd_mm.arguments import check_positive, check_weights, is_number
from r2kd_mm.losses._checks import prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.losses.kl_divergence import kl_per_sample
from r2kd_mm.registry import MODELS

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def multi_level_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float] = TEMPERATURES,
    instance_weight: float = 1.0,
    batch_weight: float = 1.0,
    class_weight: float = 1.0,
    quantile: float | None = 0.5,
) -> Tensor:
    r"""Compute the loss of "Multi-Level Logit Distillation" (Jin, Wang and Lin, CVPR 2023) for one view of the images.

    .. math:: L = \sum_\tau \left[ w_I \, \frac{\tau^2}{N} \sum_i m_i \, \mathrm{KL}(q_i \,\|\, p_i)
              + \frac{w_B}{N} \sum_i m_i \left\| (P P^T - Q Q^T)_{i:} \right\|^2
              + \frac{w_C}{C} \sum_c m'_c \left\| (P^T P - Q^T Q)_{c:} \right\|^2 \right]

    P and Q hold the softened probabilities, ``(N, C)``. As code, without the masks::

        L = sum over T of (w_I * T**2 * mean_i(KL(Q[i], P[i]))
                           + w_B * ((P @ P.T - Q @ Q.T)**2).sum() / N
                           + w_C * ((P.T @ P - Q.T @ Q)**2).sum() / C)

    The mask m keeps the samples, and m' the classes, of which the teacher is less sure. The released code averages
    each loss before it applies the mask, so that its mask only changes the weight. Here the mask selects samples
    and classes, as that code intends. The released code applies all three levels to the weakly augmented view. To the
    strongly augmented view it applies only the instance level, without mask.

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant.
        temperatures: List of :math:`\tau > 0`; the default is the paper's.
        instance_weight: Weight :math:`w_I` of the instance level; 0 leaves a level out.
        batch_weight: Weight :math:`w_B` of the similarity between samples, which depends on the batch.
        class_weight: Weight :math:`w_C` of the similarity between classes over the batch.
        quantile: Share of samples and classes to keep, by the teacher's confidence at temperature 1: the largest
            probability of a sample, or the sum of the probabilities of a class. ``None`` keeps all.

    Returns:
        Scalar of 0 or more, up to rounding.

    Raises:
        ValueError: The logits do not fit, or a number is out of range.

    Example:
        >>> import math
        >>> import torch
        >>> student_logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
        >>> teacher_logits = torch.tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
        >>> multi_level_kd(student_logits, teacher_logits, [1.0], batch_weight=0, class_weight=0)  # KL, log(3) / 2
        tensor(0.5493)
    """
    _check_settings(temperatures, instance_weight, batch_weight, class_weight, quantile)
    student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
    count, num_classes = student_logits.shape
    samples, classes = _masks(teacher_logits, quantile)
    loss = student_logits.new_zeros(())
    for temperature in temperatures:
        if instance_weight:
            per_sample = kl_per_sample(student_logits, teacher_logits, temperature)
            loss = loss + instance_weight * temperature**2 * (samples * per_sample).mean()
        p = (student_logits / temperature).softmax(dim=1)
        q = (teacher_logits / temperature).softmax(dim=1)
        if batch_weight:
            loss = loss + batch_weight * (samples * _gram_distance(p, q)).sum() / count
        if class_weight:
            loss = loss + class_weight * (classes * _gram_distance(p.T, q.T)).sum() / num_classes
    return loss


def _masks(teacher_logits: Tensor, quantile: float | None) -> tuple[Tensor, Tensor]:
    """Mark with 1 the samples ``(N,)`` and the classes ``(C,)`` that count, and with 0 the others.

    Confidences are compared in float64. Samples are compared by their odds, because probabilities near 1 round to 1.
    """
    if quantile is None:
        return teacher_logits.new_ones(len(teacher_logits)), teacher_logits.new_ones(teacher_logits.shape[1])
    logits = teacher_logits.double()
    first = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, logits.argmax(dim=1, keepdim=True), True)
    log_odds = logits.amax(dim=1) - logits.masked_fill(first, -torch.inf).logsumexp(dim=1)
    kept = (_least(confidence, quantile) for confidence in (log_odds, logits.softmax(dim=1).sum(dim=0)))
    samples, classes = (mask.to(teacher_logits.dtype) for mask in kept)
    return samples, classes


def _least(confidence: Tensor, quantile: float) -> Tensor:
    """Mark the entries up to the quantile; only their order matters, so nothing is interpolated."""
    last = math.floor(quantile * (len(confidence) - 1))
    return confidence <= confidence.sort().values[last]


def _gram_distance(p: Tensor, q: Tensor) -> Tensor:
    """Return the squared distance between the rows of the Gram matrices of ``p`` and ``q``."""
    with torch.autocast(p.device.type, enabled=False):  # a matrix product would go to half precision
        return (p @ p.T - q @ q.T).square().sum(dim=1)


def _check_settings(
    temperatures: Sequence[float],
    instance_weight: float,
    batch_weight: float,
    class_weight: float,
    quantile: float | None,
) -> None:
    if not isinstance(temperatures, Sequence) or isinstance(temperatures, str) or not temperatures:
        raise ValueError(f'temperatures must be a list of at least one number, got {temperatures!r}')
    for temperature in temperatures:
        check_positive(temperature=temperature)
    check_weights(instance_weight=instance_weight, batch_weight=batch_weight, class_weight=class_weight)
    if quantile is not None and not (is_number(quantile) and 0 <= quantile <= 1):
        raise ValueError(f'quantile must be between 0 and 1, or None to count everything, got {quantile!r}')


@MODELS.register_module()
class MLKDLoss(LogitLoss):
    """:func:`multi_level_kd` with fixed settings, times ``loss_weight``.

    Example:
        >>> import math
        >>> import torch
        >>> student_logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
        >>> teacher_logits = torch.tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
        >>> loss = MLKDLoss(temperatures=[1.0], batch_weight=0, class_weight=0, loss_weight=2.0)
        >>> loss(student_logits, teacher_logits)  # log 3
        tensor(1.0986)
    """

    def __init__(
        self,
        temperatures: Sequence[float] = TEMPERATURES,
        loss_weight: float = 1.0,
        instance_weight: float = 1.0,
        batch_weight: float = 1.0,
        class_weight: float = 1.0,
        quantile: float | None = 0.5,
    ) -> None:
        super().__init__()
        _check_settings(temperatures, instance_weight, batch_weight, class_weight, quantile)
        check_weights(loss_weight=loss_weight)
        self.temperatures = tuple(temperatures)
        self.loss_weight = loss_weight
        self.instance_weight = instance_weight
        self.batch_weight = batch_weight
        self.class_weight = class_weight
        self.quantile = quantile
        self.batch_wise = batch_weight > 0 or class_weight > 0 or quantile is not None

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """See :attr:`LogitLoss.parts`; even a single image has a Gram matrix, so a batch of one trains."""
        weights = {'instances': self.instance_weight, 'batch': self.batch_weight, 'classes': self.class_weight}
        return tuple(LossPart(level) for level, weight in weights.items() if weight > 0)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return self.loss_weight * multi_level_kd(
            student_logits,
            teacher_logits,
            self.temperatures,
            self.instance_weight,
            self.batch_weight,
            self.class_weight,
            self.quantile,
        )
