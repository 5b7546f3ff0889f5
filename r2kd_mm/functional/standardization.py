"""Z-scores along one axis that stay defined for constant, tiny and huge rows."""

import torch
from torch import Tensor


def standardize(x: Tensor, dim: int = -1, correction: int = 0) -> Tensor:
    """Z-score of ``x`` along ``dim``: mean 0 and variance 1, or nearly 0 where ``x`` is constant.

    Args:
        x: Any shape.
        dim: The axis whose mean and variance are taken.
        correction: 0 divides the sum of squares by the length ``n`` (population variance), 1 by ``n - 1``.

    Returns:
        Shape of ``x``, float32 or wider. A row counts as constant when its standard deviation is at most 64 machine
        epsilons (8e-6 in float32) of its largest magnitude: below that the deviations may be nothing but rounding. Such
        a row is centred and divided by that magnitude (by 1 if the row is all zeros) instead of by its deviation, so
        that its gradient still points away from constancy, with a size of at most ``1 / max(abs(x))``.
    """
    scaled = scale_to_one(x, dim)
    centred = scaled - scaled.mean(dim, keepdim=True)
    # Not vector_norm, which adds up naively: off by 2e-6 if one of 1000 entries dominates. sum() goes pairwise.
    variance = centred.square().sum(dim, keepdim=True) / max(x.shape[dim] - correction, 1)
    is_constant = variance <= (64 * torch.finfo(variance.dtype).eps) ** 2
    return centred / variance.masked_fill(is_constant, 1.0).sqrt()


def scale_to_one(x: Tensor, dim: int = -1) -> Tensor:
    """``x`` over its largest magnitude along ``dim``, so that squares neither vanish nor overflow.

    The divisor is a constant for autograd. That is exact for every caller that ignores the scale of a row, as z-scores
    and cosines do, and wrong for others.

    Args:
        x: Any shape.
        dim: The axis that shares one scale.

    Returns:
        Shape of ``x``, float32 or wider. Rows whose largest magnitude is below ``tiny / eps`` of that dtype (1e-31 in
        float32) count as zeros and stay as they are: their smaller entries would be subnormal, and the gradient would
        overflow.
    """
    x = widen(x)
    info = torch.finfo(x.dtype)
    largest = x.detach().abs().amax(dim, keepdim=True)
    return x / largest.masked_fill(largest < info.tiny / info.eps, 1.0)


def widen(x: Tensor) -> Tensor:
    """``x`` in float32, or in its own dtype where that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
