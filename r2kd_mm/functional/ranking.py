"""Rank the entries of a tensor along one axis, exactly or softly; soft ranks have a gradient for training.

Also compute a differentiable Kendall rank correlation.
"""

from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from r2kd_mm.functional.isotonic import block_means, isotonic
from r2kd_mm.functional.standardization import standardize, widen

# The pairwise functions need C * C differences per row. They compute them in slices of at most this many elements, and
# again in backward instead of keeping them. On the CPU a slice of 4 MiB (float32) stays near the cache. On other
# devices 64 MiB, with two slices alive at a time, keep the number of kernel launches low.
_SLICE_ELEMENTS_CPU = 2**20
_SLICE_ELEMENTS_DEVICE = 2**24


def hard_rank(x: Tensor, dim: int = -1) -> Tensor:
    """Rank along ``dim`` from 1 to C, smallest value first; ties share their average rank (``scipy.stats.rankdata``).

    Args:
        x: Any shape.
        dim: Axis of length C that is ranked.

    Returns:
        Shape of ``x``, float32 (float64 for float64 input), without gradient. Each row sums to ``C * (C + 1) / 2``.
        A row that holds NaN becomes NaN.

    Example:
        >>> import torch
        >>> hard_rank(torch.tensor([10.0, 30.0, 30.0, 20.0]))
        tensor([1.0000, 3.5000, 3.5000, 2.0000])
    """
    ordered, order = widen(x.detach()).movedim(dim, -1).sort(dim=-1)
    size = ordered.shape[-1]
    places = torch.arange(1, size + 1, dtype=ordered.dtype, device=ordered.device)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = begins.roll(-1, dims=-1)  # the first entry always begins a tied group, so the last always ends one
    first = torch.where(begins, places, 0).cummax(dim=-1).values
    last = torch.where(ends, places, size).flip(-1).cummin(dim=-1).values.flip(-1)
    ranks = ((first + last) / 2).masked_fill(ordered[..., -1:].isnan(), torch.nan)  # NaN is sorted to the end
    return torch.empty_like(ordered).scatter_(-1, order, ranks).movedim(-1, dim)


def soft_rank(x: Tensor, dim: int = -1, estimator: str = 'sigmoid', smoothing: float | None = None) -> Tensor:
    """Rank along ``dim`` with a gradient for ``x``, by one of the :data:`ESTIMATORS`.

    Each row is z-scored first (:func:`~r2kd_mm.functional.standardization.standardize`). So a shift or a positive
    factor changes no rank, and one ``smoothing`` suits every row. All estimators tend to :func:`hard_rank` as
    ``smoothing`` goes to 0. A constant row has the rank ``(C + 1) / 2`` everywhere.

    Args:
        x: Any shape.
        dim: Axis of length C that is ranked.
        estimator: ``'hard'`` has no gradient. ``'sigmoid'`` adds up pairwise sigmoids (:func:`sigmoid_rank`): the best
            gradient up to about a thousand classes, in O(C^2) time. ``'permutahedron'`` projects onto the
            permutahedron (:func:`permutahedron_rank`). ``'blackbox'`` keeps the exact rank and replaces its gradient
            (:func:`blackbox_rank`), in O(C log C) time. ``benchmarks/speed/rank_estimators.py`` compares them.
        smoothing: Softness, positive and dimensionless; each function explains its own. ``None`` takes the default of
            the estimator.

    Returns:
        Shape of ``x``, float32 or wider; the smallest value has the smallest rank.

    Raises:
        ValueError: The estimator is not known, ``smoothing`` is not positive, or ``'hard'`` is given a smoothing.

    Example:
        >>> import torch
        >>> soft_rank(torch.tensor([30.0, 10.0, 20.0]), smoothing=0.01)
        tensor([3., 1., 2.])
    """
    smoothing = resolve_smoothing(estimator, smoothing)
    if smoothing is None:
        return hard_rank(x, dim)
    rows = standardize(x, dim).movedim(dim, -1)
    ranks = ESTIMATORS[estimator].rank(rows.reshape(-1, rows.shape[-1]), smoothing)
    return ranks.reshape(rows.shape).movedim(-1, dim)


def resolve_smoothing(estimator: str, smoothing: float | None) -> float | None:
    """Check the last two arguments of :func:`soft_rank` and fill in the default.

    Args:
        estimator: A key of :data:`ESTIMATORS`.
        smoothing: Positive, or ``None`` for the default of the estimator.

    Returns:
        The smoothing to use; ``None`` if the estimator has nothing to smooth.

    Raises:
        ValueError: The estimator is not known, ``smoothing`` is not positive, or ``'hard'`` is given a smoothing.

    Example:
        >>> resolve_smoothing('sigmoid', None)
        0.1
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f'estimator must be one of {sorted(ESTIMATORS)}, got {estimator!r}')
    default = ESTIMATORS[estimator].smoothing
    if smoothing is None:
        return default
    if default is None:
        raise ValueError(f'estimator {estimator!r} has nothing to smooth, got smoothing={smoothing}; leave it out')
    _check_smoothing(smoothing)
    return smoothing


def sigmoid_rank(rows: Tensor, smoothing: float) -> Tensor:
    r"""Rank by a soft count of the smaller entries (Qin, Liu and Li, 2010, doi 10.1007/s10791-009-9124-x).

    .. math:: r_i = 1 + \sum_{j \neq i} \sigma\left(\frac{x_i - x_j}{\tau}\right)

    Args:
        rows: Shape ``(N, C)``.
        smoothing: Width :math:`\tau > 0`, in units of ``rows``: entries much closer than this share their rank.

    Returns:
        Shape ``(N, C)``, values in ``(1, C)``. The time grows with C^2, the extra memory does not.

    Example:
        >>> import torch
        >>> sigmoid_rank(torch.tensor([[5.0, 5.0]]), smoothing=1.0)  # 1 + sigmoid(0)
        tensor([[1.5000, 1.5000]])
    """
    return _SigmoidRank.apply(rows / smoothing)


def permutahedron_rank(rows: Tensor, smoothing: float) -> Tensor:
    r"""Rank by a projection onto the permutahedron of ``(1, .., C)`` (Blondel et al., ICML 2020, arXiv 2002.08871).

    .. math:: r = \mathrm{argmin}_{r \in P(1, .., C)} \tfrac12 \left\| r - \frac{a}{\tau} x \right\|^2,
              \qquad a = \sqrt{\frac{C^2 - 1}{12}}

    The factor a is the standard deviation of the ranks, and makes :math:`\tau` independent of C. At :math:`\tau = 1`,
    rows of unit variance spread as widely as their ranks. For large :math:`\tau` the projection is a shift of
    :math:`x a / \tau`.

    Args:
        rows: Shape ``(N, C)``.
        smoothing: Softness :math:`\tau > 0`.

    Returns:
        Shape ``(N, C)``, values in ``[1, C]``. An entry further than about :math:`\tau / a` from both neighbours has
        its exact rank and no gradient.

    Pool-adjacent-violators solves it in rounds, each for all rows and violators at once. A few rounds cost O(C log C).
    The number of rounds depends on the data, C / 2 at worst, and each round waits for the device.

    Example:
        >>> import torch
        >>> permutahedron_rank(torch.tensor([[0.0, 10.0]]), smoothing=1.0)
        tensor([[1., 2.]])
    """
    size = rows.shape[-1]
    spread = ((size**2 - 1) / 12) ** 0.5
    return _PermutahedronProjection.apply(rows * (spread / smoothing))


def blackbox_rank(rows: Tensor, smoothing: float) -> Tensor:
    r"""Rank exactly, with a finite difference as gradient (Rolinek et al., CVPR 2020, arXiv 1912.03500).

    .. math:: \frac{\partial L}{\partial x} = \frac{1}{\lambda}
              \left[ \mathrm{rk}\left(x + \lambda \frac{\partial L}{\partial r}\right) - \mathrm{rk}(x) \right],
              \qquad \lambda = \tau \Big/ \mathrm{rms}\left(\frac{\partial L}{\partial r}\right)

    The paper has one :math:`\lambda` for all rows. Ours gives the step of every row the root mean square
    :math:`\tau`, so that its meaning does not depend on the batch size, the loss weight or C.

    Args:
        rows: Shape ``(N, C)``.
        smoothing: Step :math:`\tau > 0`, in units of ``rows``.

    Returns:
        Shape ``(N, C)``, :func:`hard_rank` of the rows. A row without incoming gradient gets none.

    Example:
        >>> import torch
        >>> blackbox_rank(torch.tensor([[3.0, 1.0, 2.0]]), smoothing=1.0)
        tensor([[3., 1., 2.]])
    """
    return _BlackboxRank.apply(rows, smoothing)


class Estimator(NamedTuple):
    """Function that ranks z-scored rows ``(N, C)`` for :func:`soft_rank`, and its default smoothing if it has one."""

    rank: Callable[..., Tensor]
    smoothing: float | None


ESTIMATORS: dict[str, Estimator] = {
    'hard': Estimator(hard_rank, None),
    'sigmoid': Estimator(sigmoid_rank, 0.1),
    'permutahedron': Estimator(permutahedron_rank, 1.0),
    'blackbox': Estimator(blackbox_rank, 1.0),
}


def soft_kendall(x: Tensor, y: Tensor, smoothing: float = 0.5) -> Tensor:
    r"""Compute the Kendall coefficient of each pair of rows, with a soft sign for ``x``.

    .. math:: \tau = \frac{2}{C (C - 1)} \sum_{i < j} \tanh\left(\frac{x_i - x_j}{s}\right) \mathrm{sign}(y_i - y_j)

    As code: ``(tanh((x[i] - x[j]) / smoothing) * sign(y[i] - y[j])).mean()`` over the pairs i < j. As the smoothing
    goes to 0 this becomes Kendall's tau-a, in which a tied pair counts 0.

    Args:
        x: Shape ``(N, C)``; receives the gradient.
        y: Same shape; only its order matters.
        smoothing: Width ``s > 0`` of the soft sign, in units of ``x``.

    Returns:
        Shape ``(N,)``, in ``[-1, 1]``; 0 for ``C = 1``, NaN where a row holds NaN. The time grows with C^2, the extra
        memory does not.

    Raises:
        ValueError: ``smoothing`` is not positive.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]])
        >>> soft_kendall(x, y, smoothing=1e-3)  # two pairs agree, one does not: (2 - 1) / 3
        tensor([0.3333])
    """
    _check_smoothing(smoothing)
    size = x.shape[-1]
    pairs = max(size * (size - 1), 1)
    concordance = _SoftConcordance.apply(widen(x) / smoothing, widen(y.detach()))
    return concordance.masked_fill(y.isnan().any(dim=-1), torch.nan) / pairs  # the sign of NaN would be 0


def _check_smoothing(smoothing: float) -> None:
    if not (isinstance(smoothing, Real) and 0 < smoothing < float('inf')):
        raise ValueError(f'smoothing must be a positive finite number, got {smoothing!r}')


def _slices(rows: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cover all pairs of entries of ``rows`` ``(N, C)`` by slices of the rows and of the first entry of a pair."""
    count, size = rows.shape
    limit = _SLICE_ELEMENTS_CPU if rows.device.type == 'cpu' else _SLICE_ELEMENTS_DEVICE
    entries = max(1, min(size, limit // max(size, 1)))
    block = max(1, limit // (entries * max(size, 1)))
    for row in range(0, count, block):
        for entry in range(0, size, entries):
            yield slice(row, row + block), slice(entry, entry + entries)


def _differences(rows: Tensor, row: slice, entry: slice) -> Tensor:
    return rows[row, entry, None] - rows[row, None, :]


class _SigmoidRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ranks = torch.empty_like(rows)
        for row, entry in _slices(rows):
            ranks[row, entry] = _differences(rows, row, entry).sigmoid_().sum(-1)
        return ranks + 0.5  # the sum holds sigmoid(0) = 1/2 of the entry itself, the rank counts it as 1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        out = torch.empty_like(rows)
        for row, entry in _slices(rows):
            half = _differences(rows, row, entry).sigmoid_()
            slope = half.addcmul_(half, half, value=-1)  # sigmoid' is even: the slope is the same for (i, j) and (j, i)
            out[row, entry] = grad[row, entry] * slope.sum(-1) - slope.mul_(grad[row, None, :]).sum(-1)
        return out


class _SoftConcordance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        total = x.new_zeros(x.shape[0])
        for row, entry in _slices(x):
            signs = _differences(y, row, entry).sign_()
            total[row] += signs.mul_(_differences(x, row, entry).tanh_()).sum((-2, -1))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        out = torch.empty_like(x)
        for row, entry in _slices(x):
            slope = _differences(x, row, entry).tanh_().square_().neg_().add_(1)
            # Each pair is met twice, as (i, j) and as (j, i), with the same slope and the same sign towards x_i.
            out[row, entry] = 2 * slope.mul_(_differences(y, row, entry).sign_()).sum(-1)
        return out * grad[:, None], None


class _BlackboxRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, step: float) -> Tensor:
        ranks = hard_rank(rows)
        ctx.save_for_backward(rows, ranks)
        ctx.step = step
        return ranks

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        rows, ranks = ctx.saved_tensors
        size = torch.linalg.vector_norm(grad, dim=-1, keepdim=True) / rows.shape[-1] ** 0.5
        direction = grad / size.masked_fill(size == 0, 1.0)
        return (hard_rank(rows + ctx.step * direction) - ranks) * (size / ctx.step), None


class _PermutahedronProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ordered, order = rows.sort(dim=-1)
        places = torch.arange(1, rows.shape[-1] + 1, dtype=rows.dtype, device=rows.device)
        excess, block = isotonic(ordered - places)
        ctx.save_for_backward(order, block)
        return torch.empty_like(rows).scatter_(-1, order, ordered - excess)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        order, block = ctx.saved_tensors
        ordered = grad.gather(-1, order)
        return torch.empty_like(grad).scatter_(-1, order, ordered - block_means(ordered, block))
