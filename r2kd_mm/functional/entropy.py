"""Measure how unsure a network is."""

from torch import Tensor


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of ``softmax(logits / temperature)`` along the last axis, in nats.

    Args:
        logits: Shape ``(..., C)``; an entry of minus infinity is a class that cannot be.
        temperature: Softening, > 0.

    Returns:
        Shape ``(...)``, from 0 to ``log C``.
    """
    log_prob = (logits / temperature).log_softmax(dim=-1)
    prob = log_prob.exp()
    return -(prob * log_prob.masked_fill(prob == 0, 0)).sum(dim=-1)
