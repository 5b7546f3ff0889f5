"""Train a student by R2KD (robustness-reinforced knowledge distillation).

A teacher and the teacher's pruned copy teach the student on clean and on augmented images.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from r2kd_mm.augmentations import BatchAugmentation
from r2kd_mm.distillers.combinations import FORBIDDEN_IN_R2KD, check_combinations
from r2kd_mm.distillers.logit_distiller import LogitDistiller
from r2kd_mm.distillers.plain import (
    METHOD_AUGMENTATION,
    METHOD_PRUNER,
    METHOD_TEACHER_WEIGHT,
    PRUNED_MEMBER,
    check_teacher_weight,
)
from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss
from r2kd_mm.pruning import Pruner
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.engine import TeacherEngine
from r2kd_mm.teachers.ensemble import MAIN_MEMBER, MODES, TeacherEnsemble, is_ensemble
from r2kd_mm.teachers.identity import describe
from r2kd_mm.teachers.replay import Replay


@MODELS.register_module()
class R2KD(LogitDistiller):
    r"""Distiller that trains a student by R2KD (Kim et al., IEEE TKDE 36(12), 2024, doi 10.1109/TKDE.2024.3438074).

    ``dict(type='R2KD', architecture=..., teacher=..., teacher_ckpt=...)`` is the whole config. One step:

    1. The pruned teacher is a copy of the teacher without its smallest weights, 10 % in each layer.
    2. The targets are the logits :math:`w\,l_{full} + (1 - w)\,l_{pruned}` of the two, :math:`w = 0.7`.
    3. The value term (:func:`~r2kd_mm.losses.correlation_distance`) and the rank term
       (:func:`~r2kd_mm.losses.rank_distance`), each with weight 2, compare the student with the targets, on the clean
       images and on the augmented view.
    4. Cross entropy with weight 1 acts on the clean images only.

    ``examples/r2kd_by_hand.py`` is the same step in plain PyTorch. Two defaults are our choice. Our rank term
    ranks the student by sigmoids, so it has a gradient; the rank term of the released code has none
    (``RankDistanceLoss(estimator='hard')``). Our view is CutMix, one of the five augmentations of the released code.
    ``configs/_base_/methods/r2kd_released.py`` has the released code's choices.

    Args:
        architecture: The student; see :class:`LogitDistiller` for this and for every argument not listed here.
        teacher: One teacher, config, name or network; ``None`` builds the student alone, to evaluate it.
        losses: Name to loss; ``None`` takes ``loss_value`` and ``loss_rank`` of the method.
        teacher_ckpt: Path or URL of the teacher's weights.
        allow_untrained_teacher: Accept a teacher without weights.
        augmentation: Makes the augmented view; ``None`` trains on the clean images only.
        pruner: Makes the pruned teacher once the teacher's weights are loaded; ``None`` learns from the full teacher.
        teacher_weight: The share :math:`w` of the full teacher, in ``[0, 1]``.
        pruned_teacher_mode: ``'eval'``; or ``'train'`` to rerun the released code, whose pruned teacher normalises by
            the statistics of each batch and keeps its dropout.
        weighting: ``None``, the same weights for every image; or ``dict(type=ConfidenceWeights)`` or another
            :class:`~r2kd_mm.teachers.weighting.Weighting`, which starts from these weights.

    Raises:
        ValueError: A weight or a mode is out of range; the teacher is an ensemble; or there is a weighting, but no
            pruner.

    Example:
        >>> student = dict(type='ImageClassifier', backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
        ...                neck=dict(type='mmpretrain.GlobalAveragePooling'),
        ...                head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=512))
        >>> model = R2KD(student, student, allow_untrained_teacher=True)
        >>> sorted(model.distillation_losses), model.pruner, model.augmentation.alpha
        (['loss_rank', 'loss_value'], MagnitudePruner(amount=0.1, scope='layer'), 1.0)
    """

    def __init__(
        self,
        architecture: dict | nn.Module,
        teacher: dict | str | nn.Module | None,
        losses: Mapping[str, dict | nn.Module] | None = None,
        teacher_ckpt: str | None = None,
        allow_untrained_teacher: bool = False,
        augmentation: dict | BatchAugmentation | None = METHOD_AUGMENTATION,
        consistency: dict | nn.Module | None = None,
        task_loss_weight: float = 1.0,
        gather: bool = True,
        teacher_engine: str | dict | TeacherEngine = 'exact',
        replay: dict | Replay | None = None,
        joint_views: bool = False,
        channels_last: bool = False,
        compile_student: bool = False,
        features: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
        *,
        pruner: dict | Pruner | None = METHOD_PRUNER,
        teacher_weight: float = METHOD_TEACHER_WEIGHT,
        pruned_teacher_mode: str = 'eval',
        weighting: dict | None = None,
    ) -> None:
        if losses is None:
            losses = dict(loss_value=CorrelationDistanceLoss(), loss_rank=RankDistanceLoss())
        else:
            pruner = _as_in_0_1('pruner', pruner, METHOD_PRUNER)
            augmentation = _as_in_0_1('augmentation', augmentation, METHOD_AUGMENTATION)
        check_teacher_weight(teacher_weight)
        if pruned_teacher_mode not in MODES:
            raise ValueError(f'pruned_teacher_mode must be one of {MODES}, got {pruned_teacher_mode!r}')
        check_combinations(
            FORBIDDEN_IN_R2KD, teacher_is_ensemble=is_ensemble(teacher), weighting=weighting, pruner=pruner
        )
        ensemble = None
        if teacher is not None:
            members: dict[str, dict[str, Any]] = {MAIN_MEMBER: dict(teacher=teacher, teacher_ckpt=teacher_ckpt)}
            if pruner is not None:
                members[MAIN_MEMBER]['weight'] = teacher_weight
                members[PRUNED_MEMBER] = dict(
                    copy_of=MAIN_MEMBER, pruner=pruner, weight=1 - teacher_weight, mode=pruned_teacher_mode
                )
            ensemble = TeacherEnsemble(members, weighting)
        super().__init__(
            architecture,
            ensemble,
            losses,
            allow_untrained_teacher=allow_untrained_teacher,
            augmentation=augmentation,
            consistency=consistency,
            task_loss_weight=task_loss_weight,
            gather=gather,
            teacher_engine=teacher_engine,
            replay=replay,
            joint_views=joint_views,
            channels_last=channels_last,
            compile_student=compile_student,
            features=features,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.teacher_weight = teacher_weight

    def made_from(self) -> dict[str, str]:
        """See :meth:`LogitDistiller.made_from`."""
        origins = super().made_from()
        origins.pop(PRUNED_MEMBER, None)
        if self.weighting is None or self.weighting.is_fixed:
            origins.pop('weighting', None)
        return dict(origins, pruner=describe(self.pruner), teacher_weight=describe(self.teacher_weight))

    @property
    def pruned_teacher(self) -> nn.Module | None:
        """The pruned copy of the teacher, or ``None`` without a pruner."""
        return self.teachers.get(PRUNED_MEMBER)

    @property
    def pruner(self) -> Pruner | None:
        """The pruner of the pruned teacher."""
        members = {} if self._loader.ensemble is None else self._loader.ensemble.members
        return members[PRUNED_MEMBER].pruner if PRUNED_MEMBER in members else None


def _as_in_0_1(name: str, given: Any, default: Any) -> Any:
    """Return the part as version 0.1 meant it: a config with ``losses`` and without this part has none.

    A config that gives the losses, and so was written for version 0.1, must not gain a part without a word.
    """
    if given is not default:
        return given
    warnings.warn(
        f'R2KD got losses and no {name}. Such a config has no {name} in version 0.1, and it keeps this meaning in 0.2; '
        f"later it will be the method's {default!r}. State {name}=None to train without it, or "
        f'{name}=dict(type={type(default).__name__!r}) to train with it',
        FutureWarning,
        stacklevel=3,
    )
    return None
