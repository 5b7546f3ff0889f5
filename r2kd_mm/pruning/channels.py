"""Remove the output channels of smallest L1 norm from a copy of a network, with mmrazor (structured pruning)."""

from __future__ import annotations

import copy
import logging
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.logging import MMLogger
from mmrazor.models.mutables import L1MutableChannelUnit
from mmrazor.models.mutators import ChannelMutator
from mmrazor.models.task_modules.tracer import ChannelAnalyzer
from mmrazor.structures import export_fix_subnet
from torch import nn

from r2kd_mm.pruning.weights import PruningReport, check_amount, prunable_weights
from r2kd_mm.registry import MODELS

RECURSION_LIMIT = 100_000  # mmrazor traces a network from its output to its input by recursion


@MODELS.register_module()
@dataclass(frozen=True)
class ChannelPruner:
    """Pruner that removes the output channels of smallest L1 norm from a copied network (Li et al., arXiv 1608.08710).

    mmrazor groups layers into units that must lose the same channels, for example because a shortcut adds their
    outputs. The score of a channel is the mean of its norms over the layers of a unit. Channels that mmrazor cannot
    change are kept, such as the classifier's outputs. The copy is a smaller network, so its weights do not fit the
    config of the original.

    Args:
        amount: Fraction of the channels to remove in each unit, in ``[0, 1)``; at least one channel stays.
        image_size: Side in pixels of a square image that the network accepts; mmrazor traces the network with it.

    Raises:
        ValueError: The amount or the image size is out of range.
        TypeError: The amount is not a number.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
        >>> pruned, report = ChannelPruner(amount=0.5)(network)
        >>> pruned[0].out_channels, pruned[1].out_channels  # the last layer gives the classes
        (2, 2)
    """

    amount: float = 0.1
    image_size: int = 32

    def __post_init__(self) -> None:
        check_amount(self.amount)
        if isinstance(self.image_size, bool) or not isinstance(self.image_size, int) or self.image_size < 1:
            raise ValueError(
                f'image_size is the side of an image in pixels and must be 1 or more, got {self.image_size!r}'
            )

    def __call__(self, model: nn.Module) -> tuple[nn.Module, PruningReport]:
        """Return a smaller copy of ``model``, whose weights must be loaded, and the report.

        Raises:
            ValueError: ``model`` has neither a ``Conv2d`` nor a ``Linear``, mmrazor cannot trace it, or none of its
                channels can be removed.
        """
        before = prunable_weights(model)
        with _undisturbed():
            pruned = self._without_channels(copy.deepcopy(model).cpu())
        after = pruned.state_dict()
        layers = {name: (weight.numel() - after[name].numel(), weight.numel()) for name, weight in before.items()}
        device = next(iter(before.values())).device
        return pruned.to(device).train(model.training), PruningReport(layers, 'gone')

    def _without_channels(self, model: nn.Module) -> nn.Module:
        first = next(module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
        if not isinstance(first, nn.Conv2d):
            raise ValueError(
                f'ChannelPruner needs a network that begins with a Conv2d, and {type(model).__name__} begins with a '
                'Linear; take another pruner'
            )
        image = (1, first.in_channels, self.image_size, self.image_size)
        mutator = ChannelMutator(L1MutableChannelUnit, ChannelAnalyzer(image))
        weights = copy.deepcopy(model.state_dict())
        try:
            mutator.prepare_from_supernet(model)
        except Exception as error:  # mmrazor raises many kinds
            raise ValueError(
                f'mmrazor cannot follow how the layers of {type(model).__name__} are joined, for images of '
                f'{self.image_size} pixels: {error or type(error).__name__}; set image_size to a size that the network '
                'takes, or take another pruner'
            ) from error
        if not mutator.mutable_units:
            raise ValueError(f'{type(model).__name__} has no channels that could go without changing its output')
        # mmrazor has replaced layers by its own, which have the shapes but not the weights
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
        assert not unknown, unknown
        for unit in mutator.mutable_units:
            unit.current_choice = max(1, unit.num_channels - round(self.amount * unit.num_channels))
        model.mutator = mutator  # where mmrazor looks for it
        _, pruned = export_fix_subnet(model, export_subnet_mode='mutator', slice_weight=True)
        del pruned.mutator
        return pruned


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let mmrazor trace a deep network without log and without draws from the generators of the run."""
    logger = MMLogger.get_current_instance()
    level, limit, state = logger.level, sys.getrecursionlimit(), random.getstate()
    logger.setLevel(logging.WARNING)
    sys.setrecursionlimit(RECURSION_LIMIT)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            yield
    finally:
        logger.setLevel(level)
        sys.setrecursionlimit(limit)
        random.setstate(state)
