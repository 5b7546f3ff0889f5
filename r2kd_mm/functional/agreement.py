"""Compute the percentage of images for which two networks predict the same class."""

import math

from torch import Tensor


def agreement(logits: Tensor, other_logits: Tensor) -> float:
    """Compute the percentage of images for which two networks predict the same class.

    >>> agreement(Tensor([[1, 2], [3, 0], [4, 0], [0, 1]]), Tensor([[0, 5], [0, 1], [1, 0], [0, 3]]))
    75.0

    Args:
        logits: Scores of the classes, shape ``(N, C)``.
        other_logits: Scores of the other network, same shape.

    Returns:
        A value in ``[0, 100]``; NaN if there is no image.

    Raises:
        ValueError: The shapes differ.
    """
    if logits.shape != other_logits.shape:
        raise ValueError(
            f'both networks must give scores of one shape (N, C), got {tuple(logits.shape)} and '
            f'{tuple(other_logits.shape)}; set num_classes of both heads to that of the data set'
        )
    if not len(logits):
        return math.nan
    return 100 * (logits.argmax(dim=1) == other_logits.argmax(dim=1)).double().mean().item()
