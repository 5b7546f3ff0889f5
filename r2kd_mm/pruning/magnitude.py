"""Unstructured magnitude pruning of a trained classifier, as R2KD makes its second teacher."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from r2kd_mm.pruning.weights import PruningReport, check_amount, check_scope, choose_weights, masked_copy
from r2kd_mm.registry import MODELS


@MODELS.register_module()
@dataclass(frozen=True)
class MagnitudePruner:
    """Zero the smallest-magnitude weights of a copy of a trained network; biases and normalisation stay.

    With ``scope='layer'`` and ``amount=0.1`` this is the pruned teacher of R2KD (IEEE TKDE 2024,
    doi 10.1109/TKDE.2024.3438074): once, before the distillation, without fine-tuning.

    Args:
        amount: Fraction of the weights to remove, in ``[0, 1)``.
        scope: ``'layer'`` removes the fraction in each layer, ``'global'`` the smallest of the whole network.

    Raises:
        ValueError: The amount or the scope is out of range.
        TypeError: The amount is no number.
    """

    amount: float = 0.1
    scope: str = 'layer'

    def __post_init__(self) -> None:
        check_amount(self.amount)
        check_scope(self.scope)

    def __call__(self, model: nn.Module) -> tuple[nn.Module, PruningReport]:
        """Return a pruned deep copy of ``model``, whose weights must be loaded, and the report.

        Raises:
            ValueError: ``model`` has neither a ``Conv2d`` nor a ``Linear``.
        """
        return masked_copy(model, lambda weights: choose_weights(weights, self.amount, self.scope))
