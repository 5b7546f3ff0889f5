"""Compute R2KD's value loss: the cosine (or Pearson) distance between class probabilities of student and teacher.

One part compares each image's probabilities over the classes, the other each class's probabilities over the batch.
"""

import torch
from torch import Tensor

from r2kd_mm.arguments import check_positive, check_switches, check_weights
from r2kd_mm.functional.correlation import cosine, pearson
from r2kd_mm.losses._checks import prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS


def correlation_distance(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    centered: bool = False,
    class_wise: bool = True,
    batch_wise: bool = True,
    eps: float | None = None,
) -> Tensor:
    r"""Compute the value loss of R2KD (Kim et al., TKDE 2024, doi 10.1109/TKDE.2024.3438074), without its weight 2.

    .. math:: L = \tau^2 \left[ \frac1N \sum_i \left(1 - \cos(p_{i:}, q_{i:})\right)
              + \frac1C \sum_c \left(1 - \cos(p_{:c}, q_{:c})\right) \right],
              \qquad p = \mathrm{softmax}(s / \tau), \quad q = \mathrm{softmax}(t / \tau)

    As code::

        p, q = softmax(s / T), softmax(t / T)
        L = T**2 * (mean_i(1 - cos(p[i, :], q[i, :])) + mean_c(1 - cos(p[:, c], q[:, c])))

    With ``centered`` the cosine becomes Pearson's correlation, and the loss is DIST (Huang et al., NeurIPS 2022).

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant.
        temperature: Softening :math:`\tau > 0`, dimensionless.
        centered: Use Pearson's correlation instead of the uncentred cosine.
        class_wise: Include the first sum, which compares the classes of each sample.
        batch_wise: Include the second sum, which compares the samples of the batch for each class. Gather the batch
            first if it is spread over processes. A batch of one has no gradient and the value 0 (1 if ``centered``).
        eps: Number added to the product of norms; the released code has 1e-8. ``None`` uses a relative guard instead,
            which gives equal logits the distance 0.

    Returns:
        Scalar in ``[0, 2 * temperature**2]``; half this range with one sum, twice this range if ``centered``.

    Raises:
        ValueError: The logits do not fit, a number is out of range, or both sums are off.

    Example:
        >>> import math
        >>> import torch
        >>> student_logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
        >>> teacher_logits = torch.tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
        >>> correlation_distance(student_logits, teacher_logits, temperature=1.0, batch_wise=False)  # cosine 6/10
        tensor(0.4000)
    """
    _check_settings(temperature, centered, class_wise, batch_wise, eps)
    student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
    correlation = pearson if centered else cosine
    student_log_prob = (student_logits / temperature).log_softmax(dim=1)
    teacher_log_prob = (teacher_logits / temperature).log_softmax(dim=1)
    distance = student_logits.new_zeros(())
    if class_wise:
        distance = distance + (1 - correlation(student_log_prob.exp(), teacher_log_prob.exp(), 1, eps)).mean()
    if batch_wise:
        if eps is None:  # the scale of a column is free: take one where no class underflows
            student_log_prob = student_log_prob - _largest(student_log_prob.detach())
            teacher_log_prob = teacher_log_prob - _largest(teacher_log_prob)
        distance = distance + (1 - correlation(student_log_prob.exp(), teacher_log_prob.exp(), 0, eps)).mean()
    return temperature**2 * distance


def _largest(log_prob: Tensor) -> Tensor:
    """Return the largest entry of each column, or 0 where all entries are minus infinity."""
    largest = log_prob.amax(dim=0)
    return largest.masked_fill(largest == -torch.inf, 0.0)


@MODELS.register_module()
class CorrelationDistanceLoss(LogitLoss):
    """:func:`correlation_distance` with fixed settings, times ``loss_weight``.

    Example:
        >>> import math
        >>> import torch
        >>> student_logits = torch.tensor([[0.0, math.log(3)]])  # probabilities 1/4 and 3/4
        >>> teacher_logits = torch.tensor([[math.log(3), 0.0]])  # probabilities 3/4 and 1/4
        >>> CorrelationDistanceLoss(temperature=1.0, batch_wise=False)(student_logits, teacher_logits)
        tensor(0.8000)
    """

    def __init__(
        self,
        temperature: float = 4.0,
        loss_weight: float = 2.0,
        centered: bool = False,
        class_wise: bool = True,
        batch_wise: bool = True,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        _check_settings(temperature, centered, class_wise, batch_wise, eps)
        check_weights(loss_weight=loss_weight)
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.centered = centered
        self.class_wise = class_wise
        self.batch_wise = batch_wise
        self.eps = eps

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """See :attr:`LogitLoss.parts`; Pearson's correlation of two numbers is 1 or -1, a cosine of one number 1."""
        pair = 3 if self.centered else 2
        rows, columns = LossPart('classes of an image', pair), LossPart('images of a class', 2, pair)
        return (rows,) * self.class_wise + (columns,) * self.batch_wise

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return self.loss_weight * correlation_distance(
            student_logits, teacher_logits, self.temperature, self.centered, self.class_wise, self.batch_wise, self.eps
        )


def _check_settings(temperature: float, centered: bool, class_wise: bool, batch_wise: bool, eps: float | None) -> None:
    check_positive(temperature=temperature)
    check_switches(centered=centered, class_wise=class_wise, batch_wise=batch_wise)
    if eps is not None:
        check_positive(eps=eps)
    if not (class_wise or batch_wise):
        raise ValueError('class_wise and batch_wise are both False, which leaves nothing to compute; switch one on')
