"""Z-score the logits of student and teacher for each image before another loss compares them."""

from typing import Any

from torch import Tensor, nn

from r2kd_mm.functional.standardization import standardize
from r2kd_mm.losses._checks import prepare_logits
from r2kd_mm.losses.base import LogitLoss, LossPart
from r2kd_mm.registry import MODELS, build_component


@MODELS.register_module()
class LogitStandardization(LogitLoss):
    r"""Wrapper that applies another loss to the z-scores of both logits (Sun et al., CVPR 2024, arXiv 2403.01427).

    .. math:: \mathcal{Z}(x) = \frac{x - \bar x}{\sigma(x)}

    As code, for the logits x of one sample::

        z = (x - x.mean()) / x.std(correction=1)

    The divisor ``n - 1`` is the one of the authors' code. Their ``+ 1e-7`` in the denominator is a relative guard here
    (:func:`~r2kd_mm.functional.standardization.standardize`). The values are the same in float32, without gradients
    of 1e7 for a sample with equal logits.

    Args:
        loss: Module, or config of a module, that takes student logits and teacher logits, and the target if its
            ``needs_target`` is true. Set the paper's temperature in this loss: it applies to the z-scores.

    Raises:
        TypeError: ``loss`` is neither a module nor a config, or its config has an argument that does not fit.
        ValueError: The type in the config is missing or unknown.

    Example:
        >>> import torch
        >>> loss = LogitStandardization(dict(type='KLDivergenceLoss', temperature=1.0))
        >>> student_logits = torch.tensor([[1.0, 2.0, 3.0]])
        >>> loss(student_logits, 10 * student_logits + 5)  # equal z-scores
        tensor(0.)
    """

    def __init__(self, loss: dict[str, Any] | nn.Module) -> None:
        super().__init__()
        self.loss = build_component(loss, 'loss', 'r2kd_mm.losses') if isinstance(loss, dict) else loss
        if not isinstance(self.loss, nn.Module):
            raise TypeError(f'loss must be a module or the config of one, got {type(loss).__name__}')
        self.needs_target = getattr(self.loss, 'needs_target', False)
        self.batch_wise = getattr(self.loss, 'batch_wise', False)

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """Return the parts of the wrapped loss, each with at least 3 classes.

        Z-scores of two classes always have the same two values, and all classes enter the mean and the deviation.
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
