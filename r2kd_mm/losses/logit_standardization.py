"""Logit standardisation: any logit loss on z-scored logits."""

from typing import Any

from torch import Tensor, nn

from r2kd_mm.functional.standardization import standardize
from r2kd_mm.losses._checks import prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS, build_component


@MODELS.register_module()
class LogitStandardization(LogitLoss):
    r"""Another loss on the z-scores of both logits (Sun et al., CVPR 2024, arXiv 2403.01427).

    .. math:: \mathcal{Z}(x) = \frac{x - \bar x}{\sigma(x)}

    over the classes of each sample, with the standard deviation of ``n - 1`` as in the authors' code. Their ``+ 1e-7``
    below the fraction is a relative guard here (:func:`~r2kd_mm.functional.standardization.standardize`): the same
    values in float32, without gradients of 1e7 for a sample whose logits are all equal.

    Args:
        loss: The loss to wrap: a module, or a config of one, whose ``forward`` takes student logits, teacher logits
            and, if its ``needs_target`` says so, the target. The paper's temperatures apply to the z-scores: set them
            there.

    Raises:
        TypeError: ``loss`` is neither, or its config has an argument that does not fit.
        ValueError: The type in the config is missing or unknown.
    """

    def __init__(self, loss: dict[str, Any] | nn.Module) -> None:
        super().__init__()
        self.loss = build_component(loss, 'loss', 'r2kd_mm.losses') if isinstance(loss, dict) else loss
        if not isinstance(self.loss, nn.Module):
            raise TypeError(f'loss must be a module or the config of one, got {type(loss).__name__}.')
        self.needs_target = getattr(self.loss, 'needs_target', False)
        self.batch_wise = getattr(self.loss, 'batch_wise', False)

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """The parts of the wrapped loss, with at least 3 classes.

        Z-scores of two classes always have the same two values. All classes decide the mean and the deviation.
        """
        wrapped = self.loss.parts if isinstance(self.loss, LogitLoss) else (LossPart(type(self.loss).__name__),)
        return tuple(part._replace(min_classes=max(part.min_classes, 3), all_classes=True) for part in wrapped)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None) -> Tensor:
        student_logits, teacher_logits = prepare_logits(student_logits, teacher_logits)
        student_scores = standardize(student_logits, dim=1, correction=1)
        teacher_scores = standardize(teacher_logits, dim=1, correction=1)
        if self.needs_target:
            return self.loss(student_scores, teacher_scores, target)
        return self.loss(student_scores, teacher_scores)
