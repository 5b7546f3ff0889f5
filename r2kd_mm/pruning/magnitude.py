"""Unstructured magnitude pruning of a trained classifier, as R2KD makes its second teacher."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import L1Unstructured

from r2kd_mm.registry import MODELS

SCOPES = ('layer', 'global')


@dataclass(frozen=True)
class PruningReport:
    """What a pruner did.

    Attributes:
        layers: Weight name to ``(zeros, total)``, in the network's order; zeros counts every zero that is there now,
            also one that was there before.
    """

    layers: dict[str, tuple[int, int]]

    @property
    def zeros(self) -> int:
        """Number of zero weights in all pruned layers together."""
        return sum(zeros for zeros, _ in self.layers.values())

    @property
    def total(self) -> int:
        """Number of weights in all pruned layers together; biases and normalisation are not among them."""
        return sum(total for _, total in self.layers.values())

    @property
    def sparsity(self) -> float:
        """Zeros over all, in ``[0, 1]``."""
        return self.zeros / self.total

    def __str__(self) -> str:
        """One line a layer, then the sum."""
        width = max(map(len, self.layers))
        rows = [
            f'{name:<{width}}  {zeros:>10,} of {total:>12,} zero  {100 * zeros / total:6.2f} %'
            for name, (zeros, total) in self.layers.items()
        ]
        rows.append(f'{"all":<{width}}  {self.zeros:>10,} of {self.total:>12,} zero  {100 * self.sparsity:6.2f} %')
        return '\n'.join(rows)


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are pruned: those of every ``Conv2d`` and ``Linear``, a shared one once, by name."""
    modules = {name: module for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    weights: dict[int, tuple[str, nn.Parameter]] = {}
    for name, module in modules.items():
        weights.setdefault(id(module.weight), (f'{name}.weight' if name else 'weight', module.weight))
    return dict(weights.values())


def choose_weights(scores: dict[str, Tensor], amount: float, scope: str = 'layer') -> dict[str, Tensor]:
    """Choose the weights that stay: all but the ``round(amount * numel)`` with the smallest score.

    Args:
        scores: Name to importance, any shape; compared by absolute value.
        amount: Fraction to remove, in ``[0, 1)``.
        scope: ``'layer'`` removes the fraction in each tensor, ``'global'`` over all tensors together.

    Returns:
        Name to boolean mask of the tensor's shape, ``True`` where the weight stays.
    """
    chooser = L1Unstructured(float(amount))
    if scope == 'layer':
        return {name: chooser.compute_mask(score, torch.ones_like(score)).bool() for name, score in scores.items()}
    flat = torch.cat([score.flatten().float() for score in scores.values()])
    flat_masks = chooser.compute_mask(flat, torch.ones_like(flat)).bool().split([s.numel() for s in scores.values()])
    return {name: mask.view_as(scores[name]) for name, mask in zip(scores, flat_masks)}


@torch.no_grad()
def apply_masks_(weights: dict[str, nn.Parameter], masks: dict[str, Tensor]) -> PruningReport:
    """Set every weight to zero, in place, where its mask is ``False``, and report the zeros."""
    for name, weight in weights.items():
        weight.masked_fill_(~masks[name], 0)
    return PruningReport({name: (int((weight == 0).sum()), weight.numel()) for name, weight in weights.items()})


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
        if isinstance(self.amount, bool) or not isinstance(self.amount, (int, float)):
            raise TypeError(f'amount must be a fraction in [0, 1), got {self.amount!r}')
        if not 0 <= self.amount < 1:
            raise ValueError(
                f'amount is the fraction of weights to remove and must be in [0, 1), got {self.amount}; '
                'write 0.1 for 10 %, and pruner=None for no pruning'
            )
        if self.scope not in SCOPES:
            raise ValueError(f'scope must be one of {SCOPES}, got {self.scope!r}')

    def __call__(self, model: nn.Module) -> tuple[nn.Module, PruningReport]:
        """Return a pruned deep copy of ``model``, whose weights must be loaded, and the report.

        Raises:
            ValueError: ``model`` has neither a ``Conv2d`` nor a ``Linear``.
        """
        pruned = copy.deepcopy(model)
        weights = prunable_weights(pruned)
        if not weights:
            raise ValueError(f'{type(model).__name__} has no Conv2d and no Linear layer, so there is nothing to prune')
        scores = {name: weight.detach().abs() for name, weight in weights.items()}
        return pruned, apply_masks_(weights, choose_weights(scores, self.amount, self.scope))
