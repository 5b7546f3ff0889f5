"""Define the base class of all distillation losses on logits.

Each loss states the numbers of classes and images that it needs for a non-zero gradient.
"""

from typing import Any, NamedTuple

from torch import nn


class LossPart(NamedTuple):
    """Part of a loss, with the smallest number of images N and of classes C for which the part has a gradient.

    On smaller logits ``(N, C)`` the gradient of the part is exactly zero, even where its value is not. A part with
    ``all_classes`` compares every class with every other, as ranks and z-scores do. It needs the teacher's logits of
    all classes, not only the largest ones (``top_k`` of a replay).

    Example:
        >>> LossPart('ranks of the classes', min_classes=3).is_silent(num_classes=2, num_images=64)
        True
    """

    name: str
    min_classes: int = 2
    min_images: int = 1
    all_classes: bool = False

    def is_silent(self, num_classes: int | None, num_images: int | None) -> bool:
        """Tell whether the part has no gradient at this size; ``None`` stands for an unknown number."""
        few_classes = num_classes is not None and num_classes < self.min_classes
        return few_classes or (num_images is not None and num_images < self.min_images)


class LogitLoss(nn.Module):
    """Distillation loss on logits: ``forward(student_logits, teacher_logits[, target])`` returns a scalar.

    Both logits have shape ``(N, C)``, and only the student's receive a gradient. Arithmetic is float32 or wider.

    Raises:
        TypeError: A subclass is defined without :attr:`parts`.

    Example:
        >>> class SquaredDifference(LogitLoss):
        ...     parts = (LossPart('values'),)
        ...
        ...     def forward(self, student_logits, teacher_logits):
        ...         return (student_logits - teacher_logits).square().mean()
        >>> import torch
        >>> SquaredDifference()(torch.zeros(2, 3), torch.ones(2, 3))
        tensor(1.)
    """

    needs_target: bool = False
    """``forward`` takes the labels as third argument: class indices ``(N,)`` or soft labels ``(N, C)``."""

    batch_wise: bool = False
    """The loss compares samples of the batch with each other, so it is not the mean over the samples. In a distributed
    run it gets the batches of all processes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.parts is LogitLoss.parts:
            raise TypeError(
                f'{cls.__name__} must state what it needs to train the student: set parts in the class, such as '
                "parts = (LossPart('values', min_classes=2, min_images=1),), with LossPart of r2kd_mm.losses"
            )

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """List the parts that have a gradient, and what each needs; empty for a value that is only logged.

        Every subclass states its parts: as an attribute, or as a property where they depend on the settings.
        :class:`~r2kd_mm.hooks.DataCheckHook` compares them with the data before the first step.
        """
        raise NotImplementedError
