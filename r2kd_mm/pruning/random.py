"""Prune single weights (not channels) that are chosen at random, as a baseline for magnitude pruning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from r2kd_mm.pruning.weights import PruningReport, check_amount, check_scope, choose_weights, masked_copy
from r2kd_mm.registry import MODELS


@MODELS.register_module()
@dataclass(frozen=True)
class RandomPruner:
    """Pruner that copies a network and zeroes random weights in ``Conv2d`` and ``Linear`` layers.

    Args:
        amount: Fraction of the weights to remove, in ``[0, 1)``.
        scope: ``'layer'`` removes the fraction in each layer, ``'global'`` over the whole network.
        seed: Seed of the draw. The same seed removes the same weights; a larger amount removes these and more.

    Raises:
        ValueError: The amount or the scope is out of range.
        TypeError: The amount is not a number, or the seed is not an integer.

    Example:
        >>> pruned, report = RandomPruner(amount=0.5)(nn.Linear(4, 1))
        >>> int((pruned.weight == 0).sum())
        2
    """

    amount: float = 0.1
    scope: str = 'layer'
    seed: int = 0

    def __post_init__(self) -> None:
        check_amount(self.amount)
        check_scope(self.scope)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise TypeError(f'seed must be an integer, got {self.seed!r}')

    def __call__(self, model: nn.Module) -> tuple[nn.Module, PruningReport]:
        """Return a pruned deep copy of ``model``, whose weights must be loaded, and the report.

        Raises:
            ValueError: ``model`` has neither a ``Conv2d`` nor a ``Linear``.
        """
        return masked_copy(model, lambda weights: choose_weights(self._draw(weights), self.amount, self.scope))

    def _draw(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draw a score in ``[0, 1)`` for every weight, on the CPU, so that every device gets the same scores."""
        generator = torch.Generator().manual_seed(self.seed)
        return {
            name: torch.rand(weight.shape, generator=generator, dtype=torch.float64).to(weight.device)
            for name, weight in weights.items()
        }
