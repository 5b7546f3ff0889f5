"""Compute cosine similarity and Pearson or Spearman correlation along one axis, also for constant and zero rows.

All functions compute in float32 or wider, also for half-precision input and under autocast. By default, no epsilon is
added to the divisor. So the correlation of a vector with itself is exactly 1, however small its entries are.
"""

import torch
from torch import Tensor

from r2kd_mm.functional.ranking import hard_rank
from r2kd_mm.functional.standardization import scale_to_one, standardize, widen


def cosine(x: Tensor, y: Tensor, dim: int = -1, eps: float | None = None) -> Tensor:
    r"""Compute the cosine similarity of ``x`` and ``y`` along ``dim`` (also called uncentred or Eisen correlation).

    .. math:: \cos(x, y) = \frac{\langle x, y \rangle}{\|x\| \, \|y\|}

    As code: ``(x * y).sum() / (norm(x) * norm(y))``.

    Args:
        x: Any shape.
        y: Same shape as ``x``.
        dim: Axis that is summed over.
        eps: Number added to the product of norms, 1e-8 in the released codes of R2KD and DIST; it pulls the cosine of
            short vectors towards 0. ``None`` adds nothing and gives 0 for a row of zeros.

    Returns:
        Shape of ``x`` without ``dim``, in ``[-1, 1]`` up to rounding. The gradient with respect to a row of ``x`` has
        a norm of at most ``1 / norm(x)``, and of at most 1 for a row of zeros
        (:func:`~r2kd_mm.functional.standardization.scale_to_one` defines which rows count as zeros).

    Raises:
        ValueError: The shapes differ, or ``eps`` is not positive.

    Example:
        >>> import torch
        >>> cosine(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0]))  # 24 / (5 * 5)
        tensor(0.9600)
    """
    _check_shapes(x, y)
    if eps is not None:
        return _cosine_with_eps(widen(x), widen(y), dim, eps)
    return (_unit(x, dim) * _unit(y, dim)).sum(dim)


def pearson(x: Tensor, y: Tensor, dim: int = -1, eps: float | None = None) -> Tensor:
    r"""Compute the Pearson correlation along ``dim``: the :func:`cosine` of the centred vectors.

    .. math:: r(x, y) = \frac{\langle x - \bar x, y - \bar y \rangle}{\|x - \bar x\| \, \|y - \bar y\|}

    As code: ``cosine(x - x.mean(), y - y.mean())``.

    Args:
        x: Any shape.
        y: Same shape as ``x``.
        dim: Axis that is summed over.
        eps: Number added to the product of norms, or ``None``, see :func:`cosine`.

    Returns:
        Shape of ``x`` without ``dim``, in ``[-1, 1]`` up to rounding; 0 where ``x`` or ``y`` is constant
        (:func:`~r2kd_mm.functional.standardization.standardize` defines which rows count as constant). The gradient
        with respect to a row of ``x`` has a norm of at most ``1 / norm(x - mean(x))``. The bound is ``1 / max(abs(x))``
        for a constant row and 1 for a row of zeros.

    Raises:
        ValueError: The shapes differ, or ``eps`` is not positive.

    Example:
        >>> import torch
        >>> pearson(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0]))  # (3/9) / (6/9)
        tensor(0.5000)
    """
    _check_shapes(x, y)
    if eps is not None:
        x, y = widen(x), widen(y)
        return _cosine_with_eps(x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True), dim, eps)
    return (standardize(x, dim) * standardize(y, dim)).mean(dim)


def spearman(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    """Compute the Spearman correlation along ``dim``: the :func:`pearson` of average ranks (``scipy.stats.spearmanr``).

    As code: ``pearson(hard_rank(x), hard_rank(y))``. This is a measure, not a loss: ranks are piecewise constant and
    have no gradient. To train, use :func:`~r2kd_mm.functional.ranking.soft_rank` instead of ``hard_rank``.

    Args:
        x: Any shape.
        y: Same shape as ``x``.
        dim: Axis that is ranked.

    Returns:
        Shape of ``x`` without ``dim``, in ``[-1, 1]`` up to rounding; 0, and not NaN as in scipy, where ``x`` or
        ``y`` is constant.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> import torch
        >>> spearman(torch.tensor([1.0, 10.0, 100.0]), torch.tensor([3.0, 2.0, 1.0])).round()
        tensor(-1.)
    """
    _check_shapes(x, y)
    return pearson(hard_rank(x, dim), hard_rank(y, dim), dim)


def class_correlation(logits: Tensor) -> Tensor:
    """Compute Pearson's r over the images between the logits of every two classes, shape ``(classes, classes)``.

    The mean logit of each image is subtracted first. A softmax does not see it, but it would correlate all classes.

    Args:
        logits: Shape ``(images, classes)``.

    Example:
        >>> import torch
        >>> class_correlation(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).round()
        tensor([[ 1., -1.],
                [-1.,  1.]], dtype=torch.float64)
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
        raise ValueError(f'eps must be positive, or None for the relative guard, got {eps}')
    norms = torch.linalg.vector_norm(x, dim=dim) * torch.linalg.vector_norm(y, dim=dim)
    return (x * y).sum(dim) / (norms + eps)


def _check_shapes(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(f'x and y must share one shape, got {tuple(x.shape)} and {tuple(y.shape)}')
