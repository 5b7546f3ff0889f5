"""Robustness-reinforced knowledge distillation: a teacher beside its pruned copy."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from r2kd_mm.arguments import is_number
from r2kd_mm.distillers.frozen import FrozenNetworks
from r2kd_mm.distillers.logit_distiller import LogitDistiller
from r2kd_mm.pruning import MagnitudePruner
from r2kd_mm.registry import MODELS, build_component

PRUNED_TEACHER_MODES = ('eval', 'train')


@MODELS.register_module()
class R2KD(LogitDistiller):
    r"""R2KD (Kim, Ham, Cho and Kim, IEEE TKDE 36(12), 2024, doi 10.1109/TKDE.2024.3438074).

    The student learns from the logits :math:`w\,l_{full} + (1 - w)\,l_{pruned}` of the teacher and of a copy of it that
    lost its smallest weights, on the clean images and on the augmented view; see
    :class:`~r2kd_mm.distillers.LogitDistiller` for the rest of the step.

    Args:
        architecture: As for :class:`LogitDistiller`, like every argument that is not below.
        pruner: Makes the pruned teacher once the teacher's weights are loaded; ``None`` learns from the full teacher.
        teacher_weight: The share :math:`w` of the full teacher, in ``[0, 1]``.
        pruned_teacher_mode: ``'eval'``; or ``'train'`` to rerun the released code, whose pruned teacher normalises by
            the statistics of each batch and keeps its dropout.

    Raises:
        ValueError: A weight or a mode is out of range.
    """

    def __init__(
        self,
        architecture: dict | nn.Module,
        teacher: dict | str | nn.Module | None,
        *args: Any,
        pruner: dict | MagnitudePruner | None = None,
        teacher_weight: float = 0.7,
        pruned_teacher_mode: str = 'eval',
        **kwargs: Any,
    ) -> None:
        if not (is_number(teacher_weight) and 0 <= teacher_weight <= 1):
            raise ValueError(
                'teacher_weight is the share of the full teacher beside its pruned copy and must be in '
                f'[0, 1], got {teacher_weight!r}'
            )
        if pruned_teacher_mode not in PRUNED_TEACHER_MODES:
            raise ValueError(f'pruned_teacher_mode must be one of {PRUNED_TEACHER_MODES}, got {pruned_teacher_mode!r}')
        if pruner is not None:  # built first, so that a slip in it shows before the teacher is loaded
            pruner = build_component(pruner, 'pruner', 'r2kd_mm.pruning')
        super().__init__(architecture, teacher, *args, **kwargs)
        if pruner is not None and pruned_teacher_mode == 'train' and self.replay is not None:
            raise ValueError(
                "a replay needs logits that do not depend on the batch, unlike those of pruned_teacher_mode='train'; "
                "set that to 'eval', or take no replay"
            )
        self.teacher_weight = teacher_weight
        self.pruner = pruner
        self.pruned_teacher_mode = pruned_teacher_mode
        if self.teachers:
            self._add_pruned_teacher()

    def load_teachers(self) -> None:
        """See :meth:`LogitDistiller.load_teachers`."""
        super().load_teachers()
        self._add_pruned_teacher()

    def made_from(self) -> dict[str, str]:
        """See :meth:`LogitDistiller.made_from`."""
        return dict(super().made_from(), pruner=str(self.pruner), teacher_weight=str(self.teacher_weight))

    @property
    def pruned_teacher(self) -> nn.Module | None:
        """The pruned copy of the teacher, or ``None`` without a pruner."""
        return self.teachers.get('pruned_teacher')

    @torch.no_grad()
    def teacher_logits(self, inputs: Tensor) -> Tensor:
        """Weighted sum of both teachers' logits, shape ``(N, num_classes)``."""
        full_logits = super().teacher_logits(inputs)
        if self.pruned_teacher is None:
            return full_logits
        pruned_logits = self.ask('pruned_teacher', inputs)
        return self.teacher_weight * full_logits + (1 - self.teacher_weight) * pruned_logits

    def _add_pruned_teacher(self) -> None:
        if self.pruner is None:
            return
        pruned, report = self.pruner(self.teacher)
        self._frozen = FrozenNetworks(dict(self.teachers, pruned_teacher=pruned))
        pruned.train(self.pruned_teacher_mode == 'train')
        print_log(f'Pruned teacher: {self.pruner}\n{report}', logger='current')
