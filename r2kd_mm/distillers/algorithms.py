"""Let a distiller train students inside mmrazor algorithms such as AutoSlim, or refuse algorithms that cannot work.

A distiller never calls the ``train_step`` of an algorithm, so this file selects the sub-networks that a step trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from mmengine.dist import broadcast_object_list
from mmengine.model import BaseModel
from mmrazor.implementations.pruning.group_fisher import GroupFisherAlgorithm
from mmrazor.models.algorithms import DCFF, AutoSlim, SlimmableNetwork
from mmrazor.models.algorithms.base import BaseAlgorithm
from mmrazor.models.mutators import OneShotChannelMutator
from torch import nn

# What these do in their train_step is done here and by GroupFisherHook.
REPLACED = (AutoSlim, GroupFisherAlgorithm, SlimmableNetwork)


def algorithms(architecture: nn.Module | None) -> Iterator[BaseAlgorithm]:
    """Yield the mmrazor algorithms that wrap a student, the outermost first."""
    while isinstance(architecture, BaseAlgorithm):
        yield architecture
        architecture = architecture.architecture


def check_algorithms(architecture: nn.Module) -> None:
    """Refuse a student whose algorithm would not do its work, because nobody calls its ``train_step``.

    Raises:
        ValueError: It is such an algorithm, leaves a part of itself out of checkpoints, or distils its sub-networks by
            itself.
    """
    for algorithm in algorithms(architecture):
        name = type(algorithm).__name__
        if type(algorithm).train_step is not BaseModel.train_step and not isinstance(algorithm, REPLACED):
            raise ValueError(
                f'{name} cannot be the architecture of a distiller: it works in its own train_step, which a distiller '
                'does not call. Distil the sub-network that it has found (sub_model), or give '
                f'{name} the losses of r2kd_mm in a distiller of its own; see docs/compose.md'
            )
        if isinstance(algorithm, DCFF):
            raise ValueError(
                'DCFF cannot be the architecture of a distiller: what it fuses its filters by is in no checkpoint, so '
                'that what is trained cannot be loaded; take an ItePruneAlgorithm, see docs/compose.md'
            )
        if isinstance(algorithm, AutoSlim) and algorithm.distiller.distill_losses:
            raise ValueError(
                f'the student {name} has distill_losses of its own, {sorted(algorithm.distiller.distill_losses)}, '
                'which would not be computed: every sub-network learns from the teacher here; set the distiller of the '
                "student to dict(type='ConfigurableDistiller')"
            )


def sub_networks(architecture: nn.Module) -> dict[str, Callable[[], None]]:
    """Return the sub-networks that a step trains, by name, each with the function that selects it; the largest is last.

    Empty where a step trains the student as it is.
    """
    for algorithm in algorithms(architecture):
        if isinstance(algorithm, SlimmableNetwork) and not algorithm.is_deployed:
            mutator = algorithm.mutator
            by_width = sorted(enumerate(mutator.subnets), key=lambda item: sum(item[1].values()))
            return {f'subnet_{index}': partial(mutator.set_choices, subnet) for index, subnet in by_width}
        if isinstance(algorithm, AutoSlim):
            kinds = reversed(algorithm.sample_kinds)
            return {f'{kind}_subnet': partial(_choose, algorithm.mutator, kind) for kind in kinds}
    return {}


def check_group_fisher(architecture: nn.Module) -> None:
    """Refuse to train a student of Group Fisher pruning that is not watched, and so would never be pruned.

    Raises:
        ValueError: Nothing records what decides about its channels.
    """
    for algorithm in algorithms(architecture):
        if isinstance(algorithm, GroupFisherAlgorithm) and not any(
            operation.handlers for unit in algorithm.mutator.mutable_units for operation in unit.dynamic_ops
        ):
            raise ValueError(
                'the student is a GroupFisherAlgorithm, and nothing prunes it: add dict(type=GroupFisherHook) of '
                'r2kd_mm.hooks to custom_hooks'
            )


def _choose(mutator: OneShotChannelMutator, kind: str) -> None:
    """Select the sub-network that AutoSlim calls ``kind``: ``'max'``, ``'min'`` or ``'random<n>'``."""
    choices = [mutator.sample_choices(kind.rstrip('0123456789'))]
    if kind.startswith('random'):
        broadcast_object_list(choices)  # one sub-network in all processes, whose logits are compared with each other
    mutator.set_choices(choices[0])
