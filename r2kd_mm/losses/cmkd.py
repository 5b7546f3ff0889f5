"""Reconstruct the CMKD loss: match the teacher's class probabilities on easy samples, its class ranks on hard ones.

The equations of CMKD (Niu, Wang, Cai and Hou, arXiv 2410.06561) are not available to us. The abstract names a
Pearson-based and a Spearman-based loss, weighted by the difficulty of each sample. Only secondary sources say that CMKD
z-scores logits. All other choices in :func:`correlation_matching` are ours, and our results are not the paper's.
"""

import math
from collections.abc import Callable

from torch import Tensor

from r2kd_mm.arguments import check_positive, check_switches, check_weights
from r2kd_mm.functional.correlation import pearson
from r2kd_mm.functional.entropy import entropy
from r2kd_mm.functional.ranking import hard_rank, resolve_smoothing, soft_rank
from r2kd_mm.functional.standardization import standardize
from r2kd_mm.losses._checks import label_distribution, prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS


def teacher_entropy(student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None) -> Tensor:
    """Return the teacher's entropy divided by ``log C``: 0 for a one-hot prediction, 1 for a uniform one."""
    return entropy(teacher_logits) / math.log(max(teacher_logits.shape[1], 2))


def disagreement(student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None) -> Tensor:
    """Return the total variation distance of student and teacher: 0 for equal probabilities, 1 for disjoint ones."""
    return (student_logits.softmax(dim=1) - teacher_logits.softmax(dim=1)).abs().sum(dim=1) / 2


def student_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None) -> Tensor:
    """Return ``1 - exp(-e)`` of the student's cross-entropy e: 0 if it is right and sure, 1 if it is wrong and sure."""
    labels = label_distribution(target, student_logits)
    return 1 - (labels * student_logits.log_softmax(dim=1)).sum(dim=1).exp()


DIFFICULTIES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    'entropy': teacher_entropy,
    'disagreement': disagreement,
    'loss': student_loss,
}
"""Measures of difficulty: map softened student logits, teacher logits and target to ``(N,)`` values in ``[0, 1]``."""


def correlation_matching(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    temperature: float = 4.0,
    difficulty: str = 'entropy',
    batch_wise: bool = False,
    estimator: str = 'sigmoid',
    smoothing: float | None = None,
) -> Tensor:
    r"""Compute our reconstruction of CMKD (Niu et al., arXiv 2410.06561), which is not the authors' equation.

    .. math:: L = \frac1N \sum_i \left[ (1 - h_i) \left(1 - r(p_i, q_i)\right)
              + h_i \left(1 - r(\mathrm{rk}(\hat s_i), \mathrm{rk}(\hat t_i))\right) \right]

    with Pearson's r and the z-scored logits :math:`\hat s, \hat t`. As code::

        p, q = softmax(zscore(s) / T), softmax(zscore(t) / T)
        L = mean((1 - h) * (1 - pearson(p, q)) + h * (1 - pearson(rank(s), rank(t))))

    Easy samples (small difficulty h) mostly match values, hard samples mostly match ranks. There is no factor
    :math:`\tau^2`, because Pearson's r ignores the scale.

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant and ranked once.
        target: Labels, only for the difficulty ``'loss'``: class indices ``(N,)`` or soft labels ``(N, C)``.
        temperature: Softening :math:`\tau > 0` of the z-scores.
        difficulty: Measure of h, a key of :data:`DIFFICULTIES`. It sees the logits over :math:`\tau` without gradient
            and without z-scores, because z-scores hide how sure a network is.
        batch_wise: Add ``1 - r`` over the batch, averaged over classes and weighted by the mean of ``1 - h``.
        estimator: Method that ranks the student (:func:`~r2kd_mm.functional.ranking.soft_rank`).
        smoothing: Softness of the ranks, positive; ``None`` takes the default of the estimator.

    Returns:
        Scalar in ``[0, 2]``, or ``[0, 4]`` if ``batch_wise``.

    Raises:
        ValueError: The logits or the target do not fit, a number is out of range, or a name is unknown.

    Example:
        >>> import torch
        >>> student_logits = torch.tensor([[1.0, 0.0]])
        >>> correlation_matching(student_logits, -student_logits, estimator='hard')  # both correlations are -1
        tensor(2.)
    """
    check_positive(temperature=temperature)
    check_difficulty(difficulty)
    student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
    hardness = DIFFICULTIES[difficulty](student_logits.detach() / temperature, teacher_logits / temperature, target)
    value_weight, rank_weight = 1 - hardness, hardness

    student_scores, teacher_scores = standardize(student_logits, dim=1), standardize(teacher_logits, dim=1)
    student_prob = (student_scores / temperature).softmax(dim=1)
    teacher_prob = (teacher_scores / temperature).softmax(dim=1)
    student_rank = soft_rank(student_scores, 1, estimator, smoothing)
    value_distance = 1 - pearson(student_prob, teacher_prob, dim=1)
    rank_distance = 1 - pearson(student_rank, hard_rank(teacher_logits), dim=1)
    loss = (value_weight * value_distance + rank_weight * rank_distance).mean()
    if batch_wise:
        loss = loss + value_weight.mean() * (1 - pearson(student_prob, teacher_prob, dim=0)).mean()
    return loss


def check_difficulty(difficulty: str) -> None:
    """Raise a ``ValueError`` with the known measures unless ``difficulty`` is one of them."""
    if difficulty not in DIFFICULTIES:
        raise ValueError(f'difficulty must be one of {sorted(DIFFICULTIES)}, got {difficulty!r}')


@MODELS.register_module()
class CMKDLoss(LogitLoss):
    """:func:`correlation_matching`, a reconstruction of CMKD, with fixed settings, times ``loss_weight``.

    Example:
        >>> import torch
        >>> student_logits = torch.tensor([[1.0, 0.0]])
        >>> CMKDLoss(loss_weight=3.0, estimator='hard')(student_logits, -student_logits)
        tensor(6.)
    """

    def __init__(
        self,
        temperature: float = 4.0,
        loss_weight: float = 4.0,
        difficulty: str = 'entropy',
        batch_wise: bool = False,
        estimator: str = 'sigmoid',
        smoothing: float | None = None,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_weights(loss_weight=loss_weight)
        check_switches(batch_wise=batch_wise)
        check_difficulty(difficulty)
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.difficulty = difficulty
        self.batch_wise = batch_wise
        self.estimator = estimator
        self.smoothing = resolve_smoothing(estimator, smoothing)
        self.needs_target = difficulty == 'loss'

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """See :attr:`LogitLoss.parts`; z-scores of two classes are always 1 and -1."""
        values = LossPart('classes of an image', 3, all_classes=True)
        ranks = LossPart('ranks of the classes', 3, all_classes=True)
        images = LossPart('images of a class', 3, 3, all_classes=True)
        return (values,) + (ranks,) * (self.estimator != 'hard') + (images,) * self.batch_wise

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None) -> Tensor:
        return self.loss_weight * correlation_matching(
            student_logits,
            teacher_logits,
            target,
            self.temperature,
            self.difficulty,
            self.batch_wise,
            self.estimator,
            self.smoothing,
        )
