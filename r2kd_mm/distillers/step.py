"""Compute the losses of one training step of any distillation method: augment images, run teachers and student."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn

from r2kd_mm.distillers.objective import Batch, Objective, scaled
from r2kd_mm.distillers.views import AUGMENTED, CLEAN, Views
from r2kd_mm.teachers.targets import MAIN_MEMBER, Targets


class Student(Protocol):
    """Interface of the student, the network that is trained."""

    def sub_networks(self) -> Iterator[tuple[str, float]]:
        """Select one sub-network after the other; yield its name, or ``''``, and its share in the step."""

    def __call__(self, batch: Batch, view: Tensor | None) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Return the student's own losses by name, and its logits ``(N, C)`` by view."""


class Features(Protocol):
    """Compare what lies inside of student and teacher on the clean images."""

    stopped: bool

    @property
    def acts(self) -> bool:
        """Return whether features are matched now."""

    def of_teacher(self, network: nn.Module) -> AbstractContextManager:
        """Record the features of the teacher while the context is open."""

    def forget(self) -> None:
        """Free what was recorded last."""


class Step:
    """Compute the named losses of one step; their sum is what the student learns from.

    Attributes:
        logits: Logits of the last step by view and network, such as ``('clean', 'student')``. Of a student with
            sub-networks, those of the largest.

    Args:
        views: Make the augmented view.
        targets: Ask the teachers.
        student: Runs the student.
        objective: Compares the two.
        features: Compares their features too.
    """

    def __init__(
        self, views: Views, targets: Targets, student: Student, objective: Objective, features: Features | None = None
    ) -> None:
        self.views = views
        self.targets = targets
        self.student = student
        self.objective = objective
        self.features = features
        self.logits: dict[tuple[str, str], Tensor] = {}

    def __call__(
        self, images: Tensor, labels: Tensor | None = None, samples: Sequence[Any] | None = None
    ) -> dict[str, Tensor]:
        """Return the losses of one step by name.

        Args:
            images: Preprocessed images, shape ``(N, C, H, W)``.
            labels: Class indices ``(N,)`` or class shares ``(N, num_classes)``; ``None`` where ``samples`` hold them.
            samples: Data samples of mmpretrain, which also say which images these are.
        """
        batch = Batch(images, labels, samples)
        self.logits.clear()
        acting = self.objective.acting()
        # the teachers go first: their memory, all but the logits, is free again when the student fills the memory
        views = self.make_views(images, acting, samples)
        targets = self.targets(views, samples, self._watch)
        losses = {}
        for name, share in self.student.sub_networks():
            task_losses, student_logits = self.student(batch, views.get(AUGMENTED))
            terms = self.objective(batch, _prefixed('student', task_losses), student_logits, targets, acting)
            losses.update(_prefixed(name, scaled(terms, share)) if name else terms)
            for view in acting:
                self.logits[view, 'student'] = student_logits[view].detach()
                self.logits[view, 'teacher'] = targets[view]
        if self.features is not None:
            self.features.forget()
        return losses

    def make_views(
        self, images: Tensor, names: Sequence[str] | Mapping[str, Any], samples: Sequence[Any] | None = None
    ) -> dict[str, Tensor]:
        """Return the images of the named views, and of the clean one where features are matched."""
        if self._watch is not None:
            names = [CLEAN, *names]
        return self.views(images, names, self._ask_teacher, samples, self.targets.replay)

    @property
    def _watch(self) -> Any:
        return self.features.of_teacher if self.features is not None and self.features.acts else None

    def _ask_teacher(self, images: Tensor) -> Tensor:
        return self.targets.ask(MAIN_MEMBER, images)


def _prefixed(prefix: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f'{prefix}.{name}': loss for name, loss in losses.items()}
