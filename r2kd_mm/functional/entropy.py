"""Compute the entropy of class probabilities, which measures how uncertain a prediction is."""

from torch import Tensor


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the entropy of ``p = softmax(logits / temperature)`` along the last axis, ``-sum(p * log(p))``, in nats.

    Args:
        logits: Shape ``(..., C)``; an entry of minus infinity masks a class.
        temperature: Softening, > 0.

    Returns:
        Shape ``(...)``, from 0 to ``log C``.

    Example:
        >>> import torch
        >>> entropy(torch.tensor([1.0, 1.0]))  # log 2
        tensor(0.6931)
    """
    log_prob = (logits / temperature).log_softmax(dim=-1)
    prob = log_prob.exp()
    return -(prob * log_prob.masked_fill(prob == 0, 0)).sum(dim=-1)
