"""Compute the loss of decoupled knowledge distillation (DKD), which splits the KL divergence into two weighted parts.

One part compares student and teacher on the target class, the other part on the distribution over all other classes.
"""

import torch
from torch import Tensor

from r2kd_mm.arguments import check_positive, check_weights
from r2kd_mm.losses._checks import label_distribution, prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS


def decoupled_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    r"""Compute the DKD loss (Zhao et al., CVPR 2022, arXiv 2203.08679, Eq. 7), the mean over the batch.

    .. math:: L = \tau^2 \, \frac1N \sum_i \left[ \alpha \, \mathrm{KL}(b^t \,\|\, b^s)
              + \beta \, \mathrm{KL}(\hat q \,\|\, \hat p) \right]

    For target class c, b is the pair (probability of c, probability of not c). The hatted distributions leave c out
    and are normalised again. As code::

        p, q = softmax(s / T), softmax(t / T)
        L = T**2 * mean(alpha * KL((q[c], 1 - q[c]), (p[c], 1 - p[c])) + beta * KL(without_c(q), without_c(p)))

    Soft labels give the expectation of the loss over a c drawn from them. They are our addition.

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``, C of 2 or more; receives the gradient.
        teacher_logits: Same shape; treated as a constant.
        target: Class indices ``(N,)`` or soft labels ``(N, C)``.
        temperature: Softening :math:`\tau > 0`, dimensionless.
        alpha: Weight of the target-class part.
        beta: Weight of the other part; the paper has 8 for most CIFAR-100 pairs and 0.5 on ImageNet. This part is 0
            with two classes.

    Returns:
        Scalar of 0 or more, up to rounding; finite even where student or teacher is completely sure.

    Raises:
        ValueError: The logits or the target do not fit, or a number is out of range.

    Example:
        >>> import math
        >>> import torch
        >>> student_logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
        >>> teacher_logits = torch.tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
        >>> target = torch.tensor([0])
        >>> decoupled_kd(student_logits, teacher_logits, target, temperature=1.0)  # 3/4 log 3 - 1/4 log 3
        tensor(0.5493)
    """
    check_positive(temperature=temperature)
    check_weights(alpha=alpha, beta=beta)
    student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
    if student_logits.shape[1] < 2:
        raise ValueError(f'DKD needs at least 2 classes, got logits of shape {tuple(student_logits.shape)}')
    labels = label_distribution(target, student_logits)
    target_part, other_part = _parts_per_class(student_logits / temperature, teacher_logits / temperature)
    per_sample = (labels * (alpha * target_part + beta * other_part)).sum(dim=1)
    return temperature**2 * per_sample.mean()


def _parts_per_class(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Compute both divergences for every class as the target, each ``(N, C)``, without C x C work."""
    p_log, q_log = student.log_softmax(dim=1), teacher.log_softmax(dim=1)
    q, gap = q_log.exp(), _log_ratio(q_log, p_log)
    p_rest_log, q_rest_log = _log_complement(student, p_log), _log_complement(teacher, q_log)
    rest_gap = _log_ratio(q_rest_log, p_rest_log)
    target_part = q * gap + q_rest_log.exp() * rest_gap

    # Over the classes other than c: KL = sum_j q_j gap_j / (1 - q_c) - rest_gap_c. If c is the teacher's first choice,
    # 1 - q_c may vanish, so there the sum runs over probabilities that are normalised without c.
    first = torch.zeros_like(q, dtype=torch.bool).scatter_(1, teacher.argmax(dim=1, keepdim=True), True)
    terms = q * gap
    over_others = (terms.sum(dim=1, keepdim=True) - terms) / (1 - q.masked_fill(first, 0.0))
    q_others = teacher.masked_fill(first, -torch.inf).softmax(dim=1)
    over_others_of_first = (q_others * gap.masked_fill(first, 0.0)).sum(dim=1, keepdim=True)
    return target_part, torch.where(first, over_others_of_first, over_others) - rest_gap


def _log_ratio(q_log: Tensor, p_log: Tensor) -> Tensor:
    """Return ``log(q / p)``, and 0 where q is exactly 0, for the term ``0 * log(0 / p)`` of a divergence."""
    return (q_log - p_log).masked_fill(q_log == -torch.inf, 0.0)


def _log_complement(logits: Tensor, log_prob: Tensor) -> Tensor:
    """Return ``log(1 - p_c)`` for every class; where ``p_c`` rounds to 1, sum the other classes instead."""
    first = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, logits.argmax(dim=1, keepdim=True), True)
    of_first = log_prob.masked_fill(first, -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.where(first, of_first, torch.log1p(-log_prob.masked_fill(first, -torch.inf).exp()))


@MODELS.register_module()
class DKDLoss(LogitLoss):
    """:func:`decoupled_kd` with fixed settings, times ``loss_weight``.

    Example:
        >>> import math
        >>> import torch
        >>> student_logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
        >>> teacher_logits = torch.tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
        >>> DKDLoss(temperature=1.0, loss_weight=2.0)(student_logits, teacher_logits, torch.tensor([0]))  # log 3
        tensor(1.0986)
    """

    needs_target = True

    def __init__(
        self, temperature: float = 4.0, loss_weight: float = 1.0, alpha: float = 1.0, beta: float = 8.0
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_weights(loss_weight=loss_weight, alpha=alpha, beta=beta)
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.beta = beta

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """See :attr:`LogitLoss.parts`."""
        of_target, of_others = LossPart('target class'), LossPart('classes other than the target', 3)
        return (of_target,) * (self.alpha > 0) + (of_others,) * (self.beta > 0)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        return self.loss_weight * decoupled_kd(
            student_logits, teacher_logits, target, self.temperature, self.alpha, self.beta
        )
