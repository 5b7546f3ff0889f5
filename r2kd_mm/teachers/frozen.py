"""Hold networks that a model runs but never trains, outside the model's module tree."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping

from mmengine.logging import print_log
from torch import Tensor, nn


def apart_from(student: nn.Module, network: nn.Module, name: str) -> nn.Module:
    """Return ``network``; if it shares tensors with the student, warn and return a deep copy, which can be frozen.

    Args:
        student: Network that is trained.
        network: Network that will be frozen.
        name: Name of ``network`` in the log.
    """
    trained = {tensor.data_ptr() for tensor in _tensors(student).values()} - {0}  # 0: not in memory
    shared = [key for key, tensor in _tensors(network).items() if tensor.data_ptr() in trained]
    if not shared:
        return network
    print_log(
        f'The {name} shares {len(shared)} tensors with the student, the first is {shared[0]}: it gets a copy of them, '
        'and the student is trained. What is not to be trained in the student has to be frozen by '
        'requires_grad_(False).',
        logger='current',
        level=logging.WARNING,
    )
    return copy.deepcopy(network)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


class FrozenNetworks(Mapping[str, nn.Module]):
    """Named networks in eval mode without gradients, kept outside the module tree of the model that asks them.

    A network that is not a submodule is in no ``parameters()``, ``state_dict()``, optimizer, checkpoint or moving
    average. DDP does not wrap or synchronise it, and ``model.train()`` does not reach its dropout or stochastic depth.
    But it does not move with its owner either: the owner's ``_apply`` calls :meth:`moved`.

    A deep copy of the owner, such as a moving average, shares the collection. Moving makes a new collection, so that a
    copy on another device leaves the networks of the first owner where they are.

    Args:
        networks: Name to network; each is set to eval mode and frozen in place.

    Example:
        >>> networks = FrozenNetworks(dict(teacher=nn.Linear(4, 3)))
        >>> networks['teacher'].training, networks['teacher'].weight.requires_grad
        (False, False)
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self._networks = {name: network.eval().requires_grad_(False) for name, network in networks.items()}

    def __getitem__(self, name: str) -> nn.Module:
        return self._networks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)

    def __deepcopy__(self, memo: dict) -> FrozenNetworks:
        return self

    def moved(self, convert: Callable[[Tensor], Tensor]) -> FrozenNetworks:
        """Return the networks with every tensor passed through ``convert``, in the mode that each has now."""
        moved = copy.copy(self)
        moved._networks = {name: copy.deepcopy(network)._apply(convert) for name, network in self._networks.items()}
        return moved
