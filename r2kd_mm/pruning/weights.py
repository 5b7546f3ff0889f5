"""Find the prunable weights of a network, choose which to keep, set the others to zero, and count them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import L1Unstructured

from r2kd_mm.arguments import is_number

SCOPES = ('layer', 'global')


@dataclass(frozen=True)
class PruningReport:
    """Number of pruned weights and of all weights in each layer.

    Attributes:
        layers: Maps the name of a weight to ``(pruned, total)``, in the network's order. Pruned weights
            are all zero weights, including earlier zeros; for channel pruning, all removed weights.
        done: Printed word for the state of pruned weights: ``'zero'`` or ``'gone'``.

    Example:
        >>> report = PruningReport({'fc.weight': (1, 4), 'conv.weight': (1, 4)})
        >>> report.pruned, report.total, report.sparsity
        (2, 8, 0.25)
    """

    layers: dict[str, tuple[int, int]]
    done: str = 'zero'

    @property
    def pruned(self) -> int:
        """Number of pruned weights in all layers together."""
        return sum(pruned for pruned, _ in self.layers.values())

    @property
    def total(self) -> int:
        """Number of weights before pruning, in all layers together, without biases and normalisation."""
        return sum(total for _, total in self.layers.values())

    @property
    def sparsity(self) -> float:
        """Fraction of pruned weights, in ``[0, 1]``."""
        return self.pruned / self.total

    def __str__(self) -> str:
        """Return one line per layer, then the sum."""
        width = max(map(len, self.layers))
        rows = [
            f'{name:<{width}}  {pruned:>10,} of {total:>12,} {self.done}  {100 * pruned / total:6.2f} %'
            for name, (pruned, total) in {**self.layers, 'all': (self.pruned, self.total)}.items()
        ]
        return '\n'.join(rows)


class Pruner(Protocol):
    """Callable that makes a pruned copy of a network with loaded weights, and never changes the network itself.

    Example:
        >>> def prune_first_row(model):
        ...     pruned = copy.deepcopy(model)
        ...     pruned.weight.data[0] = 0
        ...     return pruned, PruningReport({'weight': (3, 6)})
        >>> pruner: Pruner = prune_first_row
        >>> network, report = pruner(nn.Linear(3, 2))
        >>> report.sparsity
        0.5
    """

    def __call__(self, model: nn.Module) -> tuple[nn.Module, PruningReport]:
        """Return the copy and the report."""
        ...


def prunable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Find the weights of every ``Conv2d`` and ``Linear`` by name, a shared weight once.

    Raises:
        ValueError: There is no such layer, or a weight is computed from other parameters, which would undo the pruning.

    Example:
        >>> list(prunable_weights(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))))
        ['0.weight']
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    weights: dict[int, tuple[str, Tensor]] = {}
    for name, module in modules.items():
        if 'weight' not in module._parameters:
            raise ValueError(
                f'the weight of {name or type(module).__name__} is computed from other parameters, as by weight_norm '
                'or spectral_norm, and would be so again after pruning; fix it first, by '
                'torch.nn.utils.parametrize.remove_parametrizations or remove_weight_norm'
            )
        weights.setdefault(id(module.weight), (f'{name}.weight' if name else 'weight', module.weight))
    if not weights:
        raise ValueError(f'{type(model).__name__} has no Conv2d and no Linear layer, so there is nothing to prune')
    return dict(weights.values())


def choose_weights(scores: Mapping[str, Tensor], amount: float, scope: str = 'layer') -> dict[str, Tensor]:
    """Choose the weights that stay: all but the ``round(amount * numel)`` with the smallest score.

    Args:
        scores: Maps a name to a tensor of importances, compared by absolute value.
        amount: Fraction to remove, in ``[0, 1)``.
        scope: ``'layer'`` removes the fraction in each tensor, ``'global'`` over all tensors together.

    Returns:
        Maps a name to a boolean mask of the tensor's shape, ``True`` where the weight stays.

    Example:
        >>> choose_weights({'fc': torch.tensor([1.0, -2.0, 3.0, -4.0])}, amount=0.5)
        {'fc': tensor([False, False,  True,  True])}
    """
    chooser = L1Unstructured(float(amount))
    if scope == 'layer':
        return {name: chooser.compute_mask(score, torch.ones_like(score)).bool() for name, score in scores.items()}
    flat = torch.cat([score.flatten().float() for score in scores.values()])
    flat_masks = chooser.compute_mask(flat, torch.ones_like(flat)).bool().split([s.numel() for s in scores.values()])
    return {name: mask.view_as(scores[name]) for name, mask in zip(scores, flat_masks)}


@torch.no_grad()
def apply_masks_(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> PruningReport:
    """Set every weight to zero in place where its mask is ``False``, and report the zeros.

    Example:
        >>> weight = torch.tensor([1.0, 2.0])
        >>> apply_masks_({'fc': weight}, {'fc': torch.tensor([False, True])}).pruned
        1
        >>> weight
        tensor([0., 2.])
    """
    for name, weight in weights.items():
        weight.masked_fill_(~masks[name], 0)
    return PruningReport({name: (int((weight == 0).sum()), weight.numel()) for name, weight in weights.items()})


def masked_copy(
    model: nn.Module, choose: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
) -> tuple[nn.Module, PruningReport]:
    """Copy ``model`` and set the weights to zero that ``choose`` masks.

    Args:
        model: Network with loaded weights.
        choose: Function from weights by name to masks by name, ``True`` where the weight stays.

    Raises:
        ValueError: ``model`` has neither a ``Conv2d`` nor a ``Linear``, or one of their weights is computed.
    """
    pruned = copy.deepcopy(model)
    weights = prunable_weights(pruned)
    return pruned, apply_masks_(weights, choose({name: weight.detach() for name, weight in weights.items()}))


def check_amount(amount: float) -> None:
    """Refuse an amount that is not a fraction in ``[0, 1)``.

    Raises:
        ValueError: The amount is out of range.
        TypeError: The amount is not a number.
    """
    if not is_number(amount):
        raise TypeError(f'amount must be a fraction in [0, 1), got {amount!r}')
    if not 0 <= amount < 1:
        raise ValueError(
            f'amount is the fraction of weights to remove and must be in [0, 1), got {amount}; '
            'write 0.1 for 10 %, and pruner=None for no pruning'
        )


def check_scope(scope: str) -> None:
    """Refuse an unknown scope.

    Raises:
        ValueError: The scope is not in :data:`SCOPES`.
    """
    if scope not in SCOPES:
        raise ValueError(f'scope must be one of {SCOPES}, got {scope!r}')
