"""Cosine, Pearson and Spearman correlation along one axis, defined at every edge.

Arithmetic is float32 or wider, whatever the input or autocast. The guard against division by zero is relative by
default, so that a vector agrees with itself exactly, however small its entries are.
"""

import torch
from torch import Tensor

from r2kd_mm.functional.ranking import hard_rank
from r2kd_mm.functional.standardization import scale_to_one, standardize, widen


def cosine(x: Tensor, y: Tensor, dim: int = -1, eps: float | None = None) -> Tensor:
    r"""Uncentred (Eisen) cosine of ``x`` and ``y`` along ``dim``.

    .. math:: \cos(x, y) = \frac{\langle x, y \rangle}{\|x\| \, \|y\|}

    Args:
        x: Any shape.
        y: Same shape as ``x``.
        dim: The axis that is summed over.
        eps: ``None`` divides by the product of norms alone and gives 0 for a row of zeros. A number is added to that
            product, as the released codes of R2KD and DIST do with 1e-8; it pulls short vectors towards 0.

    Returns:
        Shape of ``x`` without ``dim``, in ``[-1, 1]`` up to rounding. The gradient with respect to a row of ``x`` is at
        most ``1 / norm(x)`` long, and at most 1 for a row of zeros (what counts as zeros:
        :func:`~r2kd_mm.functional.standardization.scale_to_one`).

    Raises:
        ValueError: The shapes differ, or ``eps`` is not positive.
    """
    _check_shapes(x, y)
    if eps is not None:
        return _cosine_with_eps(widen(x), widen(y), dim, eps)
    return (_unit(x, dim) * _unit(y, dim)).sum(dim)


def pearson(x: Tensor, y: Tensor, dim: int = -1, eps: float | None = None) -> Tensor:
    r"""Pearson correlation of ``x`` and ``y`` along ``dim``: the :func:`cosine` of the centred vectors.

    .. math:: r(x, y) = \frac{\langle x - \bar x, y - \bar y \rangle}{\|x - \bar x\| \, \|y - \bar y\|}

    Args:
        x: Any shape.
        y: Same shape as ``x``.
        dim: The axis that is summed over.
        eps: As in :func:`cosine`.

    Returns:
        Shape of ``x`` without ``dim``, in ``[-1, 1]`` up to rounding. 0 where ``x`` or ``y`` is constant, as
        :func:`~r2kd_mm.functional.standardization.standardize` defines it. The gradient with respect to a row of ``x``
        is at most ``1 / norm(x - mean(x))`` long; for a constant row ``1 / max(abs(x))``, for a row of zeros 1.

    Raises:
        ValueError: The shapes differ, or ``eps`` is not positive.
    """
    _check_shapes(x, y)
    if eps is not None:
        x, y = widen(x), widen(y)
        return _cosine_with_eps(x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True), dim, eps)
    return (standardize(x, dim) * standardize(y, dim)).mean(dim)


def spearman(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    """Spearman correlation along ``dim``: the :func:`pearson` of average ranks, as ``scipy.stats.spearmanr``.

    A measure, not a loss: ranks are piecewise constant, so nothing has a gradient. To train, put
    :func:`~r2kd_mm.functional.ranking.soft_rank` into :func:`pearson`.

    Args:
        x: Any shape.
        y: Same shape as ``x``.
        dim: The axis that is ranked.

    Returns:
        Shape of ``x`` without ``dim``, in ``[-1, 1]`` up to rounding; 0, and not NaN as in scipy, where ``x`` or
        ``y`` is constant.

    Raises:
        ValueError: The shapes differ.
    """
    _check_shapes(x, y)
    return pearson(hard_rank(x, dim), hard_rank(y, dim), dim)


def class_correlation(logits: Tensor) -> Tensor:
    """Pearson's r over the images between the logits of every two classes, shape ``(classes, classes)``.

    The mean logit of each image is taken off first: a softmax does not see it, and it would tie all classes together.
    """
    return torch.corrcoef((logits - logits.mean(dim=1, keepdim=True)).double().T)


def _unit(x: Tensor, dim: int) -> Tensor:
    scaled = scale_to_one(x, dim)
    # The largest entry is +-1, so only a row of zeros has a squared norm below 1. Not clamp(), whose gradient at the
    # bound, where a row of one entry is, became 0 in torch 2.14.
    squares = scaled.square().sum(dim, keepdim=True)
    return scaled / squares.masked_fill(squares < 1.0, 1.0).sqrt()


def _cosine_with_eps(x: Tensor, y: Tensor, dim: int, eps: float) -> Tensor:
    if not eps > 0:
        raise ValueError(f'eps must be positive, or None for the relative guard, got {eps}.')
    norms = torch.linalg.vector_norm(x, dim=dim) * torch.linalg.vector_norm(y, dim=dim)
    return (x * y).sum(dim) / (norms + eps)


def _check_shapes(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(f'x and y must share one shape, got {tuple(x.shape)} and {tuple(y.shape)}.')
