"""What a distiller may rely on in every loss."""

from torch import nn


class LogitLoss(nn.Module):
    """A distillation loss on logits: ``forward(student_logits, teacher_logits[, target])`` gives a scalar.

    Both logits have shape ``(N, C)``; the gradient reaches the student's alone. Arithmetic is float32 or wider.
    """

    needs_target: bool = False
    """Whether ``forward`` wants the labels as third argument, class indices ``(N,)`` or soft labels ``(N, C)``."""

    batch_wise: bool = False
    """Whether samples of the batch are compared with each other, so that the loss of a batch is more than the mean of
    the losses of its samples. In a distributed run such a loss is given the batches of all processes."""
