"""Keep the N largest of every M weights in a copy of a network, and set the others to zero (N:M pruning).

Sparse tensor cores speed up the pattern 2:4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from r2kd_mm.pruning.weights import PruningReport, masked_copy
from r2kd_mm.registry import MODELS


def choose_in_groups(weight: Tensor, n: int, m: int) -> Tensor:
    """Choose the ``n`` weights of largest magnitude in each group of ``m`` neighbours along the input dimension.

    Args:
        weight: Shape ``(outputs, inputs, ...)``, with inputs divisible by ``m``. All weights of a group belong to one
            output and, in a convolution, to one kernel position. The first of equal weights stays.
        n: Number of weights that stay.
        m: Number of weights in a group.

    Returns:
        Boolean mask of the same shape, ``True`` where the weight stays.

    Example:
        >>> choose_in_groups(torch.tensor([[1.0, -2.0, 3.0, -4.0]]), n=2, m=4)
        tensor([[False, False,  True,  True]])
    """
    groups = weight.abs().movedim(1, -1).unflatten(-1, (-1, m))
    kept = groups.argsort(dim=-1, descending=True, stable=True)[..., :n]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter(-1, kept, True)
    return mask.flatten(-2).movedim(-1, 1)


@MODELS.register_module()
@dataclass(frozen=True)
class NMPruner:
    """Pruner that keeps the ``n`` largest of every ``m`` weights in a copy; biases and normalisation stay.

    A group lies along the input dimension, as in Mishra et al., *Accelerating Sparse Deep Neural Networks*, arXiv
    2104.08378, whose pattern is 2:4. A layer stays whole if its number of inputs is not divisible by ``m``: often the
    first convolution, always a depthwise one. For a grouped convolution, the inputs of one group count.

    Args:
        n: Number of weights of a group that stay, ``1 <= n < m``.
        m: Number of weights in a group.

    Raises:
        ValueError: ``n`` or ``m`` is out of range.
        TypeError: ``n`` or ``m`` is not an integer.

    Example:
        >>> NMPruner(n=2, m=4).amount
        0.5
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if any(isinstance(value, bool) or not isinstance(value, int) for value in (self.n, self.m)):
            raise TypeError(f'n and m must be integers, such as n=2, m=4, got n={self.n!r}, m={self.m!r}')
        if not 1 <= self.n < self.m:
            raise ValueError(f'n of m weights stay, and 1 <= n < m must hold, got n={self.n}, m={self.m}')

    @property
    def amount(self) -> float:
        """Fraction removed in each layer that is pruned, in ``(0, 1)``."""
        return 1 - self.n / self.m

    def __call__(self, model: nn.Module) -> tuple[nn.Module, PruningReport]:
        """Return a pruned deep copy of ``model``, whose weights must be loaded, and the report.

        Raises:
            ValueError: ``model`` has no ``Conv2d`` or ``Linear`` whose number of inputs is divisible by ``m``.
        """
        return masked_copy(model, self._choose)

    def _choose(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not any(self._fits(weight) for weight in weights.values()):
            raise ValueError(
                f'{self.n}:{self.m} pruning needs a layer whose number of inputs is divisible by {self.m}; those of '
                f'this network have {sorted({weight.shape[1] for weight in weights.values()})}'
            )
        return {
            name: choose_in_groups(weight, self.n, self.m)
            if self._fits(weight)
            else torch.ones_like(weight, dtype=torch.bool)
            for name, weight in weights.items()
        }

    def _fits(self, weight: Tensor) -> bool:
        return weight.shape[1] % self.m == 0
