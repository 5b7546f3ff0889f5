"""Compute the Kendall distance: twice the share of class pairs that student and teacher rank in opposite order.

A smooth tanh replaces the sign of the student's differences, so the loss has a gradient.
"""

from torch import Tensor

from r2kd_mm.arguments import check_positive, check_weights
from r2kd_mm.functional.ranking import soft_kendall
from r2kd_mm.functional.standardization import standardize
from r2kd_mm.losses._checks import prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS


def kendall_distance(student_logits: Tensor, teacher_logits: Tensor, smoothing: float = 0.5) -> Tensor:
    r"""Compute a ranking loss based on "Kendall's tau for Logits Distillation" (Guan et al., 2024, arXiv 2409.17823).

    .. math:: L = 1 - \frac1N \sum_n \frac{2}{C (C - 1)} \sum_{i < j}
              \tanh\left(\frac{z_{ni} - z_{nj}}{s}\right) \mathrm{sign}(t_{ni} - t_{nj})

    with the z-scored student logits z. As code::

        L = mean over samples and pairs i < j of 1 - tanh((z[i] - z[j]) / smoothing) * sign(t[i] - t[j])

    The paper discusses several differentiable forms. This one keeps the teacher's order exact, and z-scores the
    student's logits so that s means the same for every sample; both choices are ours. Use it in addition to another
    loss, not instead of one.

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant.
        smoothing: Width ``s > 0`` of the soft sign, in standard deviations of the student's logits.

    Returns:
        Scalar in ``[0, 2]``. As ``smoothing`` goes to 0, the same order gives 0 and the reverse order 2. A tied pair
        counts 1, and so does a single class.

    Raises:
        ValueError: The logits do not fit, or ``smoothing`` is not positive.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
        >>> kendall_distance(logits, -logits, smoothing=1e-3)  # every pair is reversed
        tensor(2.)
    """
    student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
    return (1 - soft_kendall(standardize(student_logits, dim=1), teacher_logits, smoothing)).mean()


@MODELS.register_module()
class KendallLoss(LogitLoss):
    """:func:`kendall_distance` with a fixed smoothing, times ``loss_weight``.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
        >>> KendallLoss(loss_weight=0.5, smoothing=1e-3)(logits, -logits)
        tensor(1.)
    """

    # z-scores of two classes are always 1 and -1
    parts = (LossPart('order of the classes', min_classes=3, all_classes=True),)

    def __init__(self, loss_weight: float = 1.0, smoothing: float = 0.5) -> None:
        super().__init__()
        check_positive(smoothing=smoothing)
        check_weights(loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.smoothing = smoothing

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return self.loss_weight * kendall_distance(student_logits, teacher_logits, self.smoothing)
