"""Set the weights of smallest magnitude to zero in a copy of a network (unstructured pruning).

R2KD makes its second teacher in this way.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from r2kd_mm.pruning.weights import PruningReport, check_amount, check_scope, choose_weights, masked_copy
from r2kd_mm.registry import MODELS


@MODELS.register_module()
@dataclass(frozen=True)
class MagnitudePruner:
    """Pruner that copies a network and zeroes the weights of smallest magnitude in ``Conv2d`` and ``Linear`` layers.

    With ``scope='layer'`` and ``amount=0.1`` this makes the pruned teacher of R2KD (IEEE TKDE 2024,
    doi 10.1109/TKDE.2024.3438074): once, before the distillation, without fine-tuning.

    Args:
        amount: Fraction of the weights to remove, in ``[0, 1)``.
        scope: ``'layer'`` removes the fraction in each layer, ``'global'`` the smallest weights of the whole network.

    Raises:
        ValueError: The amount or the scope is out of range.
        TypeError: The amount is not a number.

    Example:
        >>> import torch
        >>> network = nn.Linear(4, 1)
        >>> network.weight.data = torch.tensor([[1.0, -2.0, 3.0, -4.0]])
        >>> pruned, report = MagnitudePruner(amount=0.5)(network)
        >>> pruned.weight.data
        tensor([[ 0.,  0.,  3., -4.]])
        >>> report.sparsity
        0.5
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
