"""Compute R2KD's rank loss: 1 minus the Spearman correlation between the class ranks of student and teacher.

By default, the student's ranks are soft, so the loss has a gradient.
"""

from torch import Tensor

from r2kd_mm.arguments import check_weights
from r2kd_mm.functional.correlation import pearson
from r2kd_mm.functional.ranking import hard_rank, resolve_smoothing, soft_rank
from r2kd_mm.losses._checks import prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS


def rank_distance(
    student_logits: Tensor, teacher_logits: Tensor, estimator: str = 'sigmoid', smoothing: float | None = None
) -> Tensor:
    r"""Compute the rank loss of R2KD (Kim et al., TKDE 2024, doi 10.1109/TKDE.2024.3438074), without its weight 2.

    The released code ranks the student exactly, so that its rank loss has no gradient. Here the student's ranks are
    soft by default, so the loss has a gradient.

    .. math:: L = \frac1N \sum_i \left(1 - r(\mathrm{rk}(s_i), \mathrm{rk}(t_i))\right)

    with Pearson's r; r of ranks is Spearman's coefficient. As code::

        L = mean_i(1 - pearson(soft_rank(s[i]), hard_rank(t[i])))

    The loss takes logits. Probabilities have the same order at any temperature, but a softmax would let
    unlikely classes underflow into ties.

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; ranked exactly, as a constant.
        estimator: Method that ranks the student (:func:`~r2kd_mm.functional.ranking.soft_rank`). ``'hard'`` is the
            released code, whose value has no gradient.
        smoothing: Softness of the ranks, positive; ``None`` takes the default of the estimator.

    Returns:
        Scalar in ``[0, 2]``. A sample with equal student logits, or with equal teacher logits, counts 1.

    Raises:
        ValueError: The logits do not fit, the estimator is unknown, or ``smoothing`` is out of range.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
        >>> rank_distance(logits, -logits, estimator='hard')  # 1 - (-1)
        tensor(2.)
    """
    student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
    student_rank = soft_rank(student_logits, 1, estimator, smoothing)
    return (1 - pearson(student_rank, hard_rank(teacher_logits), dim=1)).mean()


@MODELS.register_module()
class RankDistanceLoss(LogitLoss):
    """:func:`rank_distance` with fixed settings, times ``loss_weight``.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
        >>> RankDistanceLoss(estimator='hard')(logits, -logits)
        tensor(4.)
    """

    def __init__(self, loss_weight: float = 2.0, estimator: str = 'sigmoid', smoothing: float | None = None) -> None:
        super().__init__()
        check_weights(loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.estimator = estimator
        self.smoothing = resolve_smoothing(estimator, smoothing)

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """See :attr:`LogitLoss.parts`; the exact rank is piecewise constant and has no part."""
        return () if self.estimator == 'hard' else (LossPart('ranks of the classes', min_classes=3, all_classes=True),)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return self.loss_weight * rank_distance(student_logits, teacher_logits, self.estimator, self.smoothing)
