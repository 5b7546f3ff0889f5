"""Robustness-reinforced knowledge distillation: a teacher beside its pruned copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from r2kd_mm.arguments import is_number
from r2kd_mm.distillers.ensemble import MAIN_MEMBER, MODES, TeacherEnsemble, is_ensemble
from r2kd_mm.distillers.logit_distiller import LogitDistiller
from r2kd_mm.pruning import Pruner
from r2kd_mm.registry import MODELS

PRUNED_MEMBER = 'pruned_teacher'


@MODELS.register_module()
class R2KD(LogitDistiller):
    r"""R2KD (Kim, Ham, Cho and Kim, IEEE TKDE 36(12), 2024, doi 10.1109/TKDE.2024.3438074).

    The student learns from the logits :math:`w\,l_{full} + (1 - w)\,l_{pruned}` of the teacher and of a copy of it that
    lost its smallest weights, on the clean images and on the augmented view: a
    :class:`~r2kd_mm.distillers.TeacherEnsemble` of two. See :class:`~r2kd_mm.distillers.LogitDistiller` for the rest of
    the step.

    Args:
        architecture: As for :class:`LogitDistiller`, like every argument that is not below.
        teacher: The teacher, but no ensemble.
        losses: As for :class:`LogitDistiller`.
        teacher_ckpt: Likewise.
        pruner: Makes the pruned teacher once the teacher's weights are loaded; ``None`` learns from the full teacher.
        teacher_weight: The share :math:`w` of the full teacher, in ``[0, 1]``.
        pruned_teacher_mode: ``'eval'``; or ``'train'`` to rerun the released code, whose pruned teacher normalises by
            the statistics of each batch and keeps its dropout.
        weighting: ``None``, the same weights for every image; or ``dict(type=ConfidenceWeights)`` or another
            :class:`~r2kd_mm.distillers.weighting.Weighting`, which starts from them.

    Raises:
        ValueError: A weight or a mode is out of range; the teacher is an ensemble; or there is a weighting, but no
            pruner.
    """

    def __init__(
        self,
        architecture: dict | nn.Module,
        teacher: dict | str | nn.Module | None,
        losses: Mapping[str, dict | nn.Module],
        teacher_ckpt: str | None = None,
        *args: Any,
        pruner: dict | Pruner | None = None,
        teacher_weight: float = 0.7,
        pruned_teacher_mode: str = 'eval',
        weighting: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if not (is_number(teacher_weight) and 0 <= teacher_weight <= 1):
            raise ValueError(
                'teacher_weight is the share of the full teacher beside its pruned copy and must be in '
                f'[0, 1], got {teacher_weight!r}'
            )
        if pruned_teacher_mode not in MODES:
            raise ValueError(f'pruned_teacher_mode must be one of {MODES}, got {pruned_teacher_mode!r}')
        if is_ensemble(teacher):
            raise ValueError(
                'R2KD makes the ensemble of its teacher and the pruned copy itself; give it one teacher, or give the '
                'TeacherEnsemble to LogitDistiller with the same losses and augmentation'
            )
        if weighting is not None and pruner is None:
            raise ValueError('weighting weighs the teacher and its pruned copy; give a pruner as well, or leave it out')
        ensemble = None
        if teacher is not None:
            members: dict[str, dict[str, Any]] = {MAIN_MEMBER: dict(teacher=teacher, teacher_ckpt=teacher_ckpt)}
            if pruner is not None:
                members[MAIN_MEMBER]['weight'] = teacher_weight
                members[PRUNED_MEMBER] = dict(
                    copy_of=MAIN_MEMBER, pruner=pruner, weight=1 - teacher_weight, mode=pruned_teacher_mode
                )
            ensemble = TeacherEnsemble(members, weighting)
        super().__init__(architecture, ensemble, losses, None, *args, **kwargs)
        self.teacher_weight = teacher_weight

    def made_from(self) -> dict[str, str]:
        """See :meth:`LogitDistiller.made_from`."""
        origins = super().made_from()
        origins.pop(PRUNED_MEMBER, None)
        if self.weighting is None or self.weighting.is_fixed:
            origins.pop('weighting', None)
        return dict(origins, pruner=str(self.pruner), teacher_weight=str(self.teacher_weight))

    @property
    def pruned_teacher(self) -> nn.Module | None:
        """The pruned copy of the teacher, or ``None`` without a pruner."""
        return self.teachers.get(PRUNED_MEMBER)

    @property
    def pruner(self) -> Pruner | None:
        """What makes the pruned teacher."""
        members = {} if self._ensemble is None else self._ensemble.members
        return members[PRUNED_MEMBER].pruner if PRUNED_MEMBER in members else None
