"""Compute the DIST loss: the Pearson distance between class probabilities of student and teacher.

One part compares each image's probabilities over the classes, the other each class's probabilities over the batch.
"""

from torch import Tensor

from r2kd_mm.arguments import check_positive, check_switches, check_weights
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.losses.correlation_distance import correlation_distance
from r2kd_mm.registry import MODELS


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    inter_weight: float = 2.0,
    intra_weight: float = 2.0,
    scale_by_temperature: bool = True,
) -> Tensor:
    r"""Compute DIST, "Knowledge Distillation from A Stronger Teacher" (Huang et al., NeurIPS 2022, arXiv 2205.10536).

    .. math:: L = \tau^2 \left[ \beta \, \frac1N \sum_i \left(1 - r(p_{i:}, q_{i:})\right)
              + \gamma \, \frac1C \sum_c \left(1 - r(p_{:c}, q_{:c})\right) \right]

    with Pearson's r. As code::

        p, q = softmax(s / T), softmax(t / T)
        L = T**2 * (beta * mean_i(1 - r(p[i, :], q[i, :])) + gamma * mean_c(1 - r(p[:, c], q[:, c])))

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant.
        temperature: Softening :math:`\tau > 0`; the paper has 4 on CIFAR-100 and 1 on ImageNet.
        inter_weight: Weight :math:`\beta` of the relation between the classes of a sample.
        intra_weight: Weight :math:`\gamma` of the relation between the samples of the batch, class by class.
        scale_by_temperature: Keep the factor :math:`\tau^2` of the authors' code, which the paper's appendix lacks.

    Returns:
        Scalar in ``[0, 2 * (inter_weight + intra_weight) * temperature**2]``; 0 for equal logits.

    Raises:
        ValueError: The logits do not fit, or a number is out of range.

    Example:
        >>> import torch
        >>> student_logits = torch.tensor([[1.0, 0.0]])
        >>> dist(student_logits, -student_logits, temperature=1.0, intra_weight=0.0)  # 2 * (1 - (-1))
        tensor(4.)
    """
    check_weights(inter_weight=inter_weight, intra_weight=intra_weight)
    inter = correlation_distance(student_logits, teacher_logits, temperature, centered=True, batch_wise=False)
    intra = correlation_distance(student_logits, teacher_logits, temperature, centered=True, class_wise=False)
    loss = inter_weight * inter + intra_weight * intra
    return loss if scale_by_temperature else loss / temperature**2


@MODELS.register_module()
class DISTLoss(LogitLoss):
    """:func:`dist` with fixed settings, times ``loss_weight``.

    Example:
        >>> import torch
        >>> student_logits = torch.tensor([[1.0, 0.0]])
        >>> DISTLoss(temperature=1.0, intra_weight=0.0, loss_weight=0.5)(student_logits, -student_logits)
        tensor(2.)
    """

    def __init__(
        self,
        temperature: float = 4.0,
        loss_weight: float = 1.0,
        inter_weight: float = 2.0,
        intra_weight: float = 2.0,
        scale_by_temperature: bool = True,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_weights(loss_weight=loss_weight, inter_weight=inter_weight, intra_weight=intra_weight)
        check_switches(scale_by_temperature=scale_by_temperature)
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.scale_by_temperature = scale_by_temperature
        self.batch_wise = intra_weight > 0

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """See :attr:`LogitLoss.parts`; Pearson's correlation of two numbers is 1 or -1."""
        rows, columns = LossPart('classes of an image', 3), LossPart('images of a class', 2, 3)
        return (rows,) * (self.inter_weight > 0) + (columns,) * (self.intra_weight > 0)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return self.loss_weight * dist(
            student_logits,
            teacher_logits,
            self.temperature,
            self.inter_weight,
            self.intra_weight,
            self.scale_by_temperature,
        )
