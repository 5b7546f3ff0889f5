"""Compute Hinton's distillation loss: KL(teacher || student) of class probabilities softened by a temperature."""

from torch import Tensor

from r2kd_mm.arguments import check_positive, check_weights
from r2kd_mm.losses._checks import prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Compute the soft-target loss of Hinton, Vinyals and Dean (arXiv 1503.02531, Sec. 2), the mean over the batch.

    .. math:: L = \tau^2 \, \frac1N \sum_i \mathrm{KL}(q_i \,\|\, p_i), \qquad p = \mathrm{softmax}(s / \tau),
              \quad q = \mathrm{softmax}(t / \tau)

    As code::

        p, q = softmax(s / T), softmax(t / T)
        L = T**2 * mean_i(sum_c(q * log(q / p)))

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant.
        temperature: Softening :math:`\tau > 0`, dimensionless.

    Returns:
        Scalar of 0 or more; rounding may take it below by about 1e-7 times ``temperature**2``.

    Raises:
        ValueError: The logits do not fit, or ``temperature`` is not positive.

    Example:
        >>> import math
        >>> import torch
        >>> student_logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
        >>> teacher_logits = torch.tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
        >>> kl_divergence(student_logits, teacher_logits, temperature=1.0)  # 3/4 log 3 - 1/4 log 3
        tensor(0.5493)
    """
    check_positive(temperature=temperature)
    student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
    return temperature**2 * kl_per_sample(student_logits, teacher_logits, temperature).mean()


def kl_per_sample(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return ``KL(q_i || p_i)`` of :func:`kl_divergence` per sample, shape ``(N,)``, without checks and factors."""
    student_log_prob = (student_logits / temperature).log_softmax(dim=1)
    teacher_log_prob = (teacher_logits / temperature).log_softmax(dim=1)
    teacher_prob = teacher_log_prob.exp()
    # 0 * log(0 / p) is 0 even where p is 0: a class may be masked by logits of -inf in both networks
    gap = (teacher_log_prob - student_log_prob).masked_fill(teacher_prob == 0, 0.0)
    return (teacher_prob * gap).sum(dim=1)


@MODELS.register_module()
class KLDivergenceLoss(LogitLoss):
    """:func:`kl_divergence` with a fixed temperature, times ``loss_weight``.

    Example:
        >>> import math
        >>> import torch
        >>> student_logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
        >>> teacher_logits = torch.tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
        >>> KLDivergenceLoss(temperature=1.0, loss_weight=2.0)(student_logits, teacher_logits)  # log 3
        tensor(1.0986)
    """

    parts = (LossPart('probabilities'),)

    def __init__(self, temperature: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_weights(loss_weight=loss_weight)
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return self.loss_weight * kl_divergence(student_logits, teacher_logits, self.temperature)
