"""What a distiller may rely on in every loss."""

from typing import Any, NamedTuple

from torch import nn


class LossPart(NamedTuple):
    """A part of a loss that trains the student by itself, and the smallest logits ``(N, C)`` where it does.

    On smaller logits the gradient of the part is exactly zero, whatever the value that is logged. A part with
    ``all_classes`` compares every class with every other, as ranks and z-scores do. It needs the teacher's logits of
    all classes, not only the largest (``top_k`` of a replay).
    """

    name: str
    min_classes: int = 2
    min_images: int = 1
    all_classes: bool = False

    def is_silent(self, num_classes: int | None, num_images: int | None) -> bool:
        """Whether the part has no gradient at this size; ``None`` stands for a number that is not known."""
        few_classes = num_classes is not None and num_classes < self.min_classes
        return few_classes or (num_images is not None and num_images < self.min_images)


class LogitLoss(nn.Module):
    """A distillation loss on logits: ``forward(student_logits, teacher_logits[, target])`` gives a scalar.

    Both logits have shape ``(N, C)``; the gradient reaches the student's alone. Arithmetic is float32 or wider.

    Raises:
        TypeError: A subclass is defined without :attr:`parts`.
    """

    needs_target: bool = False
    """Whether ``forward`` wants the labels as third argument, class indices ``(N,)`` or soft labels ``(N, C)``."""

    batch_wise: bool = False
    """Whether samples of the batch are compared with each other, so that the loss of a batch is more than the mean of
    the losses of its samples. In a distributed run such a loss is given the batches of all processes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.parts is LogitLoss.parts:
            raise TypeError(
                f'{cls.__name__} must state what it needs to train the student: set parts in the class, such as '
                "parts = (LossPart('values', min_classes=2, min_images=1),), with LossPart of r2kd_mm.losses"
            )

    @property
    def parts(self) -> tuple[LossPart, ...]:
        """The parts that have a gradient, and what each needs; empty for a value that is only logged.

        Every subclass states them, as an attribute or, where they depend on the settings, as a property.
        :class:`~r2kd_mm.hooks.DataCheckHook` compares them with the data before the first step.
        """
        raise NotImplementedError
