"""CMKD, reconstructed: values and ranks of the class scores matched together, weighed per sample by difficulty.

The equations of CMKD (Niu, Wang, Cai and Hou, arXiv 2410.06561) are not public to us. From its abstract come a
Pearson-based and a Spearman-based loss whose weights follow the difficulty of the sample; the z-scores come from
second-hand accounts. Everything more precise than that is our decision, in :func:`correlation_matching`, and no number
from here is a number of the paper.
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
    """Entropy of the teacher's probabilities over that of uniform ones: 0 for a sure teacher, 1 for an unsure one."""
    return entropy(teacher_logits) / math.log(max(teacher_logits.shape[1], 2))


def disagreement(student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None) -> Tensor:
    """Total variation distance between the probabilities of student and teacher: 0 where equal, 1 where disjoint."""
    return (student_logits.softmax(dim=1) - teacher_logits.softmax(dim=1)).abs().sum(dim=1) / 2


def student_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None) -> Tensor:
    """The student's cross-entropy e as ``1 - exp(-e)``: 0 where it is right and sure, 1 where it is wrong and sure."""
    labels = label_distribution(target, student_logits)
    return 1 - (labels * student_logits.log_softmax(dim=1)).sum(dim=1).exp()


DIFFICULTIES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    'entropy': teacher_entropy,
    'disagreement': disagreement,
    'loss': student_loss,
}
"""How hard a sample is: (student logits, teacher logits, target), logits softened, to shape ``(N,)`` in ``[0, 1]``."""


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
    r"""Our reconstruction of CMKD (Niu et al., arXiv 2410.06561) from its abstract; not the authors' equations.

    .. math:: L = \frac1N \sum_i \left[ (1 - h_i) \left(1 - r(p_i, q_i)\right)
              + h_i \left(1 - r(\mathrm{rk}(\hat s_i), \mathrm{rk}(\hat t_i))\right) \right]

    with Pearson's r, the z-scored logits :math:`\hat s, \hat t` and :math:`p = \mathrm{softmax}(\hat s / \tau)`, q
    likewise. Easy samples (small difficulty h) lean on values, hard ones on ranks. Pearson's r ignores scale, hence no
    :math:`\tau^2`.

    Args:
        student_logits: Unnormalised scores, shape ``(N, C)``; receives the gradient.
        teacher_logits: Same shape; treated as a constant and ranked once.
        target: Labels, for the difficulty ``'loss'`` alone: class indices ``(N,)`` or soft labels ``(N, C)``.
        temperature: Softening :math:`\tau > 0` of the z-scores.
        difficulty: A key of :data:`DIFFICULTIES`: what h is. Measured without gradient on logits over :math:`\tau` that
            are not z-scored, since z-scores hide how sure a network is.
        batch_wise: Add ``1 - r`` over the batch, averaged over classes and weighted by the mean of ``1 - h``.
        estimator: How the student is ranked (:func:`~r2kd_mm.functional.ranking.soft_rank`).
        smoothing: Positive; ``None`` takes the default of the estimator.

    Returns:
        Scalar in ``[0, 2]``, or ``[0, 4]`` if ``batch_wise``.

    Raises:
        ValueError: The logits or the target do not fit, a number is out of range, or a name is unknown.
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
    """Raise ``ValueError`` that lists the known measures unless ``difficulty`` is one of them."""
    if difficulty not in DIFFICULTIES:
        raise ValueError(f'difficulty must be one of {sorted(DIFFICULTIES)}, got {difficulty!r}.')


@MODELS.register_module()
class CMKDLoss(LogitLoss):
    """:func:`correlation_matching`, a reconstruction of CMKD, with fixed settings, times ``loss_weight``."""

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
        """See :attr:`LogitLoss.parts`; z-scores of two classes are 1 and -1, always."""
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
