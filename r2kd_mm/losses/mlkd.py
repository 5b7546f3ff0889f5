"""Multi-level logit distillation: instance, batch and class level at several temperatures."""

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
    r"""Loss of "Multi-Level Logit Distillation" (Jin, Wang and Lin, CVPR 2023) for one view, summed over temperatures.

    .. math:: L = \sum_\tau \left[ w_I \, \frac{\tau^2}{N} \sum_i m_i \, \mathrm{KL}(q_i \,\|\, p_i)
              + \frac{w_B}{N} \sum_i m_i \left\| (P P^T - Q Q^T)_{i:} \right\|^2
              + \frac{w_C}{C} \sum_c m'_c \left\| (P^T P - Q^T Q)_{c:} \right\|^2 \right]

    P and Q hold the softened probabilities, ``(N, C)``. The mask m keeps the samples, and m' the classes, of which the
    teacher is less sure than of the others, as the released code means it: there every loss was averaged first, so that
    the mask only changed its weight. That code applies all this to the weakly augmented view, and the instance level
    alone, unmasked, to the strongly augmented one.

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant.
        temperatures: All :math:`\tau > 0`; the five of the paper by default.
        instance_weight: :math:`w_I`; 0 leaves the level out, as for the next two.
        batch_weight: :math:`w_B`, of the similarity between samples. It depends on the batch.
        class_weight: :math:`w_C`, of the similarity between classes over the batch.
        quantile: Samples and classes up to this quantile of the teacher's confidence (largest probability of a sample,
            sum of the probabilities of a class, at temperature 1) count; ``None`` counts all.

    Returns:
        Scalar of 0 or more, up to rounding.

    Raises:
        ValueError: The logits do not fit, or a number is out of range.
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
    """Which samples ``(N,)`` and which classes ``(C,)`` count, as 0 and 1.

    Confidences are compared in float64, and those of samples as odds: a probability near 1 rounds to 1, where all sure
    samples would be equally sure.
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
    """Mark the entries up to the quantile. Only their order matters, so no threshold between two of them is needed."""
    last = math.floor(quantile * (len(confidence) - 1))
    return confidence <= confidence.sort().values[last]


def _gram_distance(p: Tensor, q: Tensor) -> Tensor:
    """Squared distance between the rows of the Gram matrices of ``p`` and ``q``."""
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
        raise ValueError(f'temperatures must be a list of at least one number, got {temperatures!r}.')
    for temperature in temperatures:
        check_positive(temperature=temperature)
    check_weights(instance_weight=instance_weight, batch_weight=batch_weight, class_weight=class_weight)
    if quantile is not None and not (is_number(quantile) and 0 <= quantile <= 1):
        raise ValueError(f'quantile must be between 0 and 1, or None to count everything, got {quantile!r}.')


@MODELS.register_module()
class MLKDLoss(LogitLoss):
    """:func:`multi_level_kd` with fixed settings, times ``loss_weight``."""

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
        """See :attr:`LogitLoss.parts`; a single image is compared with itself, by the square of its probabilities."""
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
