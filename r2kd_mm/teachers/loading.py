"""Build the teachers of a distiller at once or, if their logits are stored, only when some logits are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from r2kd_mm.teachers.ensemble import TeacherEnsemble
from r2kd_mm.teachers.frozen import FrozenNetworks

if TYPE_CHECKING:
    from r2kd_mm.teachers.replay import Replay


class TeacherLoader:
    """Builder of the teachers of an ensemble, which checks that each teacher fits the student.

    Attributes:
        ensemble: The teachers and their copies, as given in the config; ``None`` if the student is built alone.

    Args:
        ensemble: See the attribute.
        student: The student; a teacher that shares tensors with it is copied.
        check: Function of the name of a teacher and the teacher; raises an error if it does not fit the student.
        allow_untrained: Accept teachers without weights.
        replay: Stored logits, which replace the teachers once the store is complete.

    Example:
        >>> ensemble = TeacherEnsemble(dict(teacher=dict(teacher=nn.Linear(4, 3))))
        >>> loader = TeacherLoader(ensemble, student=nn.Linear(4, 3), check=lambda name, teacher: None)
        >>> list(loader.build())
        ['teacher']
    """

    def __init__(
        self,
        ensemble: TeacherEnsemble | None,
        student: nn.Module,
        check: Callable[[str, nn.Module], None],
        allow_untrained: bool = False,
        replay: Replay | None = None,
    ) -> None:
        self.ensemble = ensemble
        self._student = student
        self._check = check
        self._allow_untrained = allow_untrained
        self._replay = replay

    def required(self, owner: object) -> TeacherEnsemble:
        """Return the ensemble.

        Args:
            owner: The distiller, for the message.

        Raises:
            RuntimeError: The student was built alone.
        """
        if self.ensemble is None:
            raise RuntimeError(
                f'this {type(owner).__name__} was built with teacher=None, to evaluate the student; '
                'give it a teacher to train'
            )
        return self.ensemble

    def build(self) -> FrozenNetworks:
        """Build the teachers; none where the student is built alone, or where a complete replay stands for them.

        Raises:
            ValueError: See :meth:`~r2kd_mm.teachers.ensemble.TeacherEnsemble.build`.
        """
        if self.ensemble is None or (
            self.ensemble.is_in_files and self._replay is not None and self._replay.store.has_complete
        ):
            return FrozenNetworks({})
        networks = self._build(self.ensemble)
        self.ensemble = self.ensemble.without_networks()
        return networks

    def build_for_replay(self) -> FrozenNetworks:
        """Build the teachers that a complete replay has made unnecessary so far.

        Raises:
            ValueError: They are not those that the stored logits were made by.
        """
        assert self.ensemble is not None
        assert self._replay is not None
        networks = self._build(self.ensemble)
        self._replay.check_origin(self.ensemble.made_from(networks))
        return networks

    def _build(self, ensemble: TeacherEnsemble) -> FrozenNetworks:
        with torch.random.fork_rng(devices=[]):  # a student starts the same whoever its teacher is, loaded or replayed
            return ensemble.build(self._allow_untrained, self._check, self._student)
