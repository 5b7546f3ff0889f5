"""Structured pruning: whole channels are cut off, by mmrazor."""

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

RECURSION_LIMIT = 100_000  # mmrazor follows a network from its output to its input by recursion


@MODELS.register_module()
@dataclass(frozen=True)
class ChannelPruner:
    """Cut off the output channels of smallest L1 norm in a copy of a trained network (Li et al., arXiv 1608.08710).

    Channels that can only go together, such as those that a shortcut adds up, are one unit and are judged by the mean
    of their norms. Units are found by mmrazor; what it cannot change, the classes above all, stays. The copy is a
    smaller network: its weights do not fit the config of the network that it came from.

    Args:
        amount: Fraction of the channels to remove in each unit, in ``[0, 1)``; at least one channel stays.
        image_size: Side in pixels of a square image that the network can take, to follow how its layers are joined.

    Raises:
        ValueError: The amount or the image size is out of range.
        TypeError: The amount is no number.
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
            ValueError: ``model`` has neither a ``Conv2d`` nor a ``Linear``; mmrazor cannot follow it; or none of its
                channels can go.
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
        # mmrazor has put layers of its own into the network, and what it copies into them is the shapes
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
    """Let mmrazor follow a network as deep as it goes, quietly, and draw nothing from the generators of the run."""
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
