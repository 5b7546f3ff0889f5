"""Get the logits that a student learns from: run the frozen teachers, or read stored logits (a replay)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from r2kd_mm.teachers.engine import TeacherEngine
from r2kd_mm.teachers.frozen import FrozenNetworks
from r2kd_mm.teachers.weighting import FixedWeights, LearnedWeights, Weighting, mix

if TYPE_CHECKING:
    from r2kd_mm.teachers.replay import Replay

# The teacher that augmentations ask, and whose accuracy is the teacher's wherever one is shown.
MAIN_MEMBER = 'teacher'
Watch = Callable[[nn.Module], AbstractContextManager]


class Targets:
    """Callable that maps the images of each view to the logits that the student learns from, without gradient.

    Attributes:
        networks: The frozen teachers by name; empty if a replay replaces them.
        members: Logits of each teacher for the clean images of the last step, shape ``(teachers, N, C)``; ``None`` if
            no teacher ran. Learned weights are trained on these logits.

    Args:
        networks: See the attribute.
        weighting: Weighs the teachers; ``None`` weighs them equally.
        engine: Runs the teachers.
        replay: Keeps the logits on disk.
        load: Builds the teachers when the replay lacks some logits.
        ask: Maps the name of a teacher and preprocessed images to logits; ``None`` for the engine's.

    Example:
        >>> targets = Targets(FrozenNetworks(dict(teacher=nn.Flatten())), engine=TeacherEngine.from_config('plain'))
        >>> targets(dict(clean=torch.tensor([[1.0, 2.0]])))
        {'clean': tensor([[1., 2.]])}
    """

    def __init__(
        self,
        networks: FrozenNetworks,
        weighting: Weighting | None = None,
        engine: TeacherEngine | None = None,
        replay: Replay | None = None,
        load: Callable[[], FrozenNetworks] | None = None,
        ask: Callable[[str, Tensor], Tensor] | None = None,
    ) -> None:
        self.networks = networks
        self.weighting = FixedWeights([1 / len(networks) for _ in networks]) if weighting is None else weighting
        self.engine = TeacherEngine() if engine is None else engine
        self.replay = replay
        self.members: Tensor | None = None
        self._load = load
        self.ask = self.run if ask is None else ask

    def __call__(
        self, images: Mapping[str, Tensor], samples: Sequence[Any] | None = None, watch: Watch | None = None
    ) -> dict[str, Tensor]:
        """Return the logits to learn from, shape ``(N, num_classes)``, by view.

        Args:
            images: Preprocessed images ``(N, C, H, W)`` by view.
            samples: Say which images these are; only a replay needs them.
            watch: Makes a context around a network. It surrounds :data:`MAIN_MEMBER` on the clean images alone.
        """
        self.members = None
        if self.replay is None:
            return self._ask_all(images, watch)
        logits = self.replay.read(images, samples)
        if logits is not None:
            return logits
        if not self.networks:
            print_log('The replay lacks some logits: the teachers are loaded to make them.', logger='current')
            self.load(next(iter(images.values())).device)
        logits = self._ask_all(images, watch)
        self.replay.write(logits, samples)
        return logits

    def run(self, name: str, inputs: Tensor) -> Tensor:
        """Return the logits ``(N, num_classes)`` of the teacher ``name``, run by the engine."""
        return self.engine.logits(self.networks[name], inputs)

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits to learn from, ``(N, num_classes)``, for preprocessed ``inputs`` of any view."""
        return self._mix(self._ask_members(inputs))

    def load(self, device: torch.device) -> None:
        """Build the teachers that a complete replay has made unnecessary so far."""
        assert self._load is not None
        self.networks = self._load().moved(lambda tensor: tensor.to(device))

    def convert(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Pass every tensor of the teachers through ``fn``, as ``module._apply(fn)`` does."""
        self.networks = self.networks.moved(fn)

    def losses(self, labels: Callable[[], Tensor], share: float) -> dict[str, Tensor]:
        """Return the loss of learned weights, and the weights of the clean images where they are not fixed.

        Args:
            labels: Gives class indices ``(N,)`` or class shares ``(N, C)`` of the clean images.
            share: The part of this process in the mean over all processes.
        """
        terms: dict[str, Tensor] = {}
        if self.weighting.is_fixed:
            return terms
        members = self.members
        if self.weighting.is_learned:
            loss = None if members is None else share * cast(LearnedWeights, self.weighting).loss(members, labels())
            terms['ensemble.loss'] = no_gradient(self.weighting) if loss is None else loss
        if members is not None:  # no name of a teacher contains 'loss', so these are shown and not trained
            weights = self.weighting(members).detach().reshape(len(members), -1).mean(dim=1)
            terms.update((f'ensemble.weight_{name}', weight) for name, weight in zip(self.networks, weights))
        return terms

    def _ask_all(self, images: Mapping[str, Tensor], watch: Watch | None) -> dict[str, Tensor]:
        """Ask the teachers about all views in one batch, where that changes no logit."""
        if watch is not None:
            with watch(self.networks[MAIN_MEMBER]):
                members = dict(clean=self._ask_members(images['clean']))
            members |= {view: self._ask_members(batch) for view, batch in images.items() if view != 'clean'}
        elif len(images) > 1 and all(map(self.engine.can_join, self.networks.values())):
            joined = self._ask_members(torch.cat(list(images.values())))
            members = dict(zip(images, joined.split([len(batch) for batch in images.values()], dim=1)))
        else:
            members = {view: self._ask_members(batch) for view, batch in images.items()}
        self.members = members.get('clean')
        return {view: self._mix(logits) for view, logits in members.items()}

    def _ask_members(self, inputs: Tensor) -> Tensor:
        """Return the logits of every teacher, shape ``(teachers, N, num_classes)``."""
        return torch.stack([self.ask(name, inputs) for name in self.networks])

    @torch.no_grad()
    def _mix(self, members: Tensor) -> Tensor:
        return members[0] if len(members) == 1 else mix(members, self.weighting(members))


def no_gradient(module: nn.Module) -> Tensor:
    """Return a loss of 0 for a step without a loss: DistributedDataParallel wants a gradient of every parameter."""
    return torch.stack([0 * parameter.sum() for parameter in module.parameters()]).sum()
