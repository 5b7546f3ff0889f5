"""Compute z-scores (mean 0, variance 1) along one axis, also for constant, tiny and huge rows."""

import torch
from torch import Tensor


def standardize(x: Tensor, dim: int = -1, correction: int = 0) -> Tensor:
    """Z-score ``x`` along ``dim`` to mean 0 and variance 1, or to nearly 0 where ``x`` is constant.

    Args:
        x: Any shape.
        dim: Axis of the mean and the variance.
        correction: Number subtracted from ``n`` in the divisor of the variance: 0 (population) or 1 (sample).

    Returns:
        Shape of ``x``, float32 or wider.

    A row counts as constant when its standard deviation is at most 64 machine epsilons (8e-6 in float32) of its largest
    magnitude, because smaller deviations may be rounding. Such a row is centred and divided by that magnitude instead
    of by its deviation (by 1 if the row is all zeros). Its gradient still points away from a constant row, with a size
    of at most ``1 / max(abs(x))``.

    Example:
        >>> import torch
        >>> standardize(torch.tensor([10.0, 30.0])).round()
        tensor([-1.,  1.])
    """
    scaled = scale_to_one(x, dim)
    centred = scaled - scaled.mean(dim, keepdim=True)
    # Not vector_norm, which adds up naively: off by 2e-6 if one of 1000 entries dominates. sum() goes pairwise.
    variance = centred.square().sum(dim, keepdim=True) / max(x.shape[dim] - correction, 1)
    is_constant = variance <= (64 * torch.finfo(variance.dtype).eps) ** 2
    return centred / variance.masked_fill(is_constant, 1.0).sqrt()


def scale_to_one(x: Tensor, dim: int = -1) -> Tensor:
    """Divide ``x`` by its largest magnitude along ``dim``, so that squares neither vanish nor overflow.

    The divisor is a constant for autograd. That is exact only for callers that ignore the scale of a row, such as
    z-scores and cosines.

    Args:
        x: Any shape.
        dim: Axis that shares one scale.

    Returns:
        Shape of ``x``, float32 or wider. Rows whose largest magnitude is below ``tiny / eps`` of that dtype (1e-31 in
        float32) count as zeros and stay as they are: their gradient would overflow.

    Example:
        >>> import torch
        >>> scale_to_one(torch.tensor([1.0, -4.0]))
        tensor([ 0.2500, -1.0000])
    """
    x = widen(x)
    info = torch.finfo(x.dtype)
    largest = x.detach().abs().amax(dim, keepdim=True)
    return x / largest.masked_fill(largest < info.tiny / info.eps, 1.0)


def widen(x: Tensor) -> Tensor:
    """Convert ``x`` to float32, or keep its dtype where that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
