"""Kendall distance between the class rankings of student and teacher: pairs that the student orders differently."""

from torch import Tensor

from r2kd_mm.arguments import check_positive, check_weights
from r2kd_mm.functional.ranking import soft_kendall
from r2kd_mm.functional.standardization import standardize
from r2kd_mm.losses._checks import prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS


def kendall_distance(student_logits: Tensor, teacher_logits: Tensor, smoothing: float = 0.5) -> Tensor:
    r"""Ranking loss after "Kendall's tau Coefficient for Logits Distillation" (Guan et al., 2024, arXiv 2409.17823).

    .. math:: L = 1 - \frac1N \sum_n \frac{2}{C (C - 1)} \sum_{i < j}
              \tanh\left(\frac{z_{ni} - z_{nj}}{s}\right) \mathrm{sign}(t_{ni} - t_{nj})

    The paper discusses several differentiable forms; this one keeps the teacher's order exact, and z-scores the
    student's logits so that s means the same for every sample (both ours). It is an addition to another loss, not a
    replacement.

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant.
        smoothing: ``s > 0``, in standard deviations of the student's logits.

    Returns:
        Scalar in ``[0, 2]``; 0 for the same order, 2 for the reverse, as ``smoothing`` goes to 0. A tied pair, and a
        single class, count 1.

    Raises:
        ValueError: The logits do not fit, or ``smoothing`` is not positive.
    """
    student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
    return (1 - soft_kendall(standardize(student_logits, dim=1), teacher_logits, smoothing)).mean()


@MODELS.register_module()
class KendallLoss(LogitLoss):
    """:func:`kendall_distance` with a fixed smoothing, times ``loss_weight``."""

    parts = (
        LossPart('order of the classes', min_classes=3, all_classes=True),
    )  # z-scores of two classes are 1 and -1, always

    def __init__(self, loss_weight: float = 1.0, smoothing: float = 0.5) -> None:
        super().__init__()
        check_positive(smoothing=smoothing)
        check_weights(loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.smoothing = smoothing

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return self.loss_weight * kendall_distance(student_logits, teacher_logits, self.smoothing)
