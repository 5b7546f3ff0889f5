"""The mechanics that every logit distillation shares: views, frozen teachers, named losses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from mmrazor.models.algorithms.base import BaseAlgorithm
from mmrazor.models.utils import add_prefix
from torch import Tensor, nn

from r2kd_mm.augmentations import BatchAugmentation, BatchDraws, ViewContext
from r2kd_mm.distillers.frozen import FrozenNetworks
from r2kd_mm.distillers.gathering import LogitGatherer, ViewLogits
from r2kd_mm.distillers.student import logits_module, recorded_outputs, unwrap_student
from r2kd_mm.distillers.teacher import build_teacher, check_same_inputs, classifier_logits, num_classes
from r2kd_mm.registry import MODELS, build_component


@MODELS.register_module()
class LogitDistiller(BaseAlgorithm):
    """Train a student on its own loss and on losses between its logits and those of a frozen teacher.

    One step: the student's own loss (its head's, usually cross entropy) on the clean images; every distillation loss
    on the clean images; and, with an ``augmentation``, every distillation loss once more on the augmented view, for
    which student and teacher run again and no label is used. Losses are logged as ``student.loss``, ``clean.<name>``
    and ``augmented.<name>``, and MMEngine trains their sum.

    With one :class:`~r2kd_mm.losses.KLDivergenceLoss` and no augmentation this is plain knowledge distillation;
    :class:`~r2kd_mm.distillers.R2KD` adds the pruned teacher by overriding :meth:`teacher_logits`.

    Teachers are no submodules (:class:`~r2kd_mm.distillers.frozen.FrozenNetworks`): always in eval mode, without
    gradient, and in no optimizer, checkpoint, moving average or DDP wrapper. ``mode='tensor'`` and ``'predict'`` run
    the student alone.

    Attributes:
        step_logits: Logits of the last step by view and network, such as ``('clean', 'student')``; for hooks.

    Args:
        architecture: The student, config or model.
        teacher: The teacher, see :func:`~r2kd_mm.distillers.teacher.build_teacher`; ``None`` builds the student
            alone, to evaluate it.
        losses: Name to loss. A name must contain ``loss``, because MMEngine trains only such terms.
        teacher_ckpt: Path or URL of the teacher's weights.
        allow_untrained_teacher: Accept a teacher without ``teacher_ckpt``.
        augmentation: Makes the augmented view; ``None`` trains on the clean images only.
        task_loss_weight: Factor of the student's own loss, >= 0.
        gather: In a run of several processes, make every loss that of all their batches together, whose gradient does
            not depend on the number of processes; losses that compare samples see them all, in one collective a step.
            ``False`` keeps each process to its own batch, as the published codes do. With gradient accumulation a
            batch is what one forward pass sees.
        data_preprocessor: Normalises the images for student and teacher alike; the student's own by default.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: A part is missing, unknown, out of range, or does not fit the others.
    """

    def __init__(
        self,
        architecture: dict | BaseModel,
        teacher: dict | str | nn.Module | None,
        losses: Mapping[str, dict | nn.Module],
        teacher_ckpt: str | None = None,
        allow_untrained_teacher: bool = False,
        augmentation: dict | BatchAugmentation | None = None,
        task_loss_weight: float = 1.0,
        gather: bool = True,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if isinstance(architecture, dict):
            architecture = MODELS.build(architecture)
        # in-place operations may stay: what is recorded here is the output of the head, which nothing overwrites
        super().__init__(architecture, data_preprocessor, init_cfg, module_inplace=True)
        if not task_loss_weight >= 0:
            raise ValueError(f'task_loss_weight must be >= 0, got {task_loss_weight}')
        self.task_loss_weight = task_loss_weight
        self.gather = gather
        self.allow_untrained_teacher = allow_untrained_teacher
        self.distillation_losses = nn.ModuleDict(
            {name: build_component(loss, 'loss', 'r2kd_mm.losses') for name, loss in _checked_names(losses).items()}
        )
        self.augmentation = (
            None if augmentation is None else build_component(augmentation, 'augmentation', 'r2kd_mm.augmentations')
        )
        self._augmented_losses = self._choose_augmented_losses()

        self.distillation_stopped = False  # mmrazor's StopDistillHook sets it
        self._loss_scales = dict.fromkeys(self.distillation_losses, 1.0)
        self._augmented_scale = 1.0
        self._iteration, self._repeats = -1, 0
        self._gatherer = LogitGatherer()
        self.step_logits: dict[tuple[str, str], Tensor] = {}

        self._frozen = FrozenNetworks({})
        if teacher is not None:
            teacher = build_teacher(teacher, teacher_ckpt, allow_untrained_teacher)
            self._check_teacher(teacher)
            self._frozen = FrozenNetworks(dict(teacher=teacher))

    @property
    def teachers(self) -> Mapping[str, nn.Module]:
        """The frozen networks by name; empty where the student was built alone."""
        return self._frozen

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher."""
        return self._frozen['teacher']

    @torch.no_grad()
    def teacher_logits(self, inputs: Tensor) -> Tensor:
        """The logits to learn from, shape ``(N, num_classes)``, for preprocessed ``inputs``; without gradient."""
        return classifier_logits(self.teacher, inputs)

    def set_loss_scale(self, name: str, scale: float) -> None:
        """For hooks: multiply the distillation loss ``name`` by ``scale`` >= 0 from now on; 0 leaves it out.

        Where nothing is left to distil, the teachers are not run either.

        Raises:
            ValueError: There is no such loss.
        """
        if name not in self._loss_scales:
            raise ValueError(f'there is no distillation loss {name!r}; this model has {sorted(self._loss_scales)}')
        self._loss_scales[name] = scale

    def set_augmented_scale(self, scale: float) -> None:
        """For hooks: multiply all losses of the augmented view by ``scale`` >= 0 from now on; 0 skips the view.

        Raises:
            ValueError: The model has no augmentation.
        """
        if self.augmentation is None:
            raise ValueError('this model has no augmented view to schedule; give it an augmentation')
        self._augmented_scale = scale

    def loss(self, inputs: Tensor, data_samples: list[DataSample] | None = None) -> dict[str, Tensor]:
        """Losses of one step by name; MMEngine sums all whose name contains ``loss``.

        Args:
            inputs: Preprocessed images, shape ``(N, C, H, W)``.
            data_samples: Their labels.
        """
        if not self._frozen:
            raise RuntimeError(
                f'this {type(self).__name__} was built with teacher=None, to evaluate the student; '
                'give it a teacher to train'
            )
        self.step_logits.clear()
        with recorded_outputs(logits_module(unwrap_student(self.architecture))) as outputs:
            task_losses = self.architecture(inputs, data_samples, mode='loss')
        task_losses = add_prefix(_scaled(task_losses, self.task_loss_weight), 'student')

        scales = self._active_scales()
        views = {}
        for view, active in scales.items():
            images = inputs if view == 'clean' else self.augmentation(inputs, self._view_context())
            student_logits = outputs[-1] if view == 'clean' else classifier_logits(self.architecture, images)
            needs_labels = any(_needs_target(self.distillation_losses[name]) for name in active)
            views[view] = ViewLogits(
                student_logits, self.teacher_logits(images), _labels(data_samples) if needs_labels else None
            )
            self.step_logits[view, 'student'] = views[view].student.detach()
            self.step_logits[view, 'teacher'] = views[view].teacher

        whole, shares = self._in_all_processes(inputs, views, scales)
        losses = _scaled(task_losses, shares['task'])
        for view, active in scales.items():
            for name, scale in active.items():
                loss = self.distillation_losses[name]
                if _is_batch_wise(loss):
                    batch = whole[view]
                else:
                    batch, scale = views[view], scale * shares[view]
                target = (batch.labels,) if _needs_target(loss) else ()
                losses[f'{view}.{name}'] = scale * loss(batch.student, batch.teacher, *target)
        return losses

    def _active_scales(self) -> dict[str, dict[str, float]]:
        """Scale of every loss that acts now, by view and name; views without any are left out."""
        if self.distillation_stopped:
            return {}
        clean = {name: scale for name, scale in self._loss_scales.items() if scale > 0}
        augmented = {name: clean[name] * self._augmented_scale for name in self._augmented_losses if name in clean}
        return {
            view: active
            for view, active in (('clean', clean), ('augmented', augmented if self._augmented_scale > 0 else {}))
            if active
        }

    def _in_all_processes(
        self, inputs: Tensor, views: dict[str, ViewLogits], scales: Mapping[str, Mapping[str, float]]
    ) -> tuple[dict[str, ViewLogits], dict[str, float]]:
        """The views of all processes together, and this process's share of them and of the student's own loss."""
        counts = {'task': len(inputs), **{name: len(view.student) for name, view in views.items()}}
        if not self.gather or get_world_size() == 1:
            return views, dict.fromkeys(counts, 1.0)
        if not any(_is_batch_wise(self.distillation_losses[name]) for active in scales.values() for name in active):
            return views, self._gatherer.shares(counts, inputs.device)
        whole, shares = self._gatherer.gather(views)
        return whole, {'task': shares['clean'], **shares}

    def _view_context(self) -> ViewContext:
        mean = std = None
        if getattr(self.data_preprocessor, '_enable_normalize', False):
            mean, std = self.data_preprocessor.mean, self.data_preprocessor.std
        return ViewContext(
            BatchDraws(self._step_generator()), lambda images: classifier_logits(self.teacher, images), mean, std
        )

    def _step_generator(self) -> torch.Generator:
        """Generator of this step's draws, decided by the seed, the rank and the iteration.

        A step that is run again after ``--resume`` draws the same, and ranks draw differently. Steps within one
        iteration, and all steps outside a Runner, are told apart by counting them.
        """
        iteration = MessageHub.get_current_instance().runtime_info.get('iter', 0)
        self._repeats = self._repeats + 1 if iteration == self._iteration else 0
        self._iteration = iteration
        entropy = [torch.initial_seed(), get_rank(), iteration, self._repeats]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(seed)

    def _choose_augmented_losses(self) -> tuple[str, ...]:
        """Names of the losses of the augmented view: without those that need labels which the augmentation mixes."""
        if self.augmentation is None:
            return ()
        if self.augmentation.keeps_labels:
            return tuple(self.distillation_losses)
        left_out = [name for name, loss in self.distillation_losses.items() if _needs_target(loss)]
        if left_out:
            print_log(
                f'{", ".join(left_out)} need labels, which {type(self.augmentation).__name__} mixes: they act on '
                'the clean images only',
                logger='current',
                level=logging.WARNING,
            )
        return tuple(name for name in self.distillation_losses if name not in left_out)

    def _check_teacher(self, teacher: nn.Module) -> None:
        check_same_inputs(teacher, self.data_preprocessor)
        student_classes, teacher_classes = num_classes(unwrap_student(self.architecture)), num_classes(teacher)
        if None not in (student_classes, teacher_classes) and student_classes != teacher_classes:
            raise ValueError(
                f'student and teacher must know the same classes, got num_classes={student_classes} in '
                f'the student and {teacher_classes} in the teacher; set both heads to that of the data set'
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LogitDistiller:
        """Move the teachers along with the student (``.to()``, ``.cuda()``, ``.double()``)."""
        super()._apply(fn, recurse)
        self._frozen = self._frozen.moved(fn)
        return self


def _checked_names(losses: Mapping[str, dict | nn.Module]) -> Mapping[str, dict | nn.Module]:
    """Refuse names that MMEngine would show and not train."""
    if not isinstance(losses, Mapping) or not losses:
        raise ValueError(
            'losses must be a dict of at least one named loss, such as '
            f"dict(loss_kd=dict(type='KLDivergenceLoss')), got {losses!r}"
        )
    for name in losses:
        if 'loss' not in name or '.' in name:
            raise ValueError(
                f"the name of a loss must contain 'loss', because MMEngine trains only such terms, and no "
                f'dot, got {name!r}; call it {"loss_" + name.replace(".", "_")!r}'
            )
    return losses


def _needs_target(loss: nn.Module) -> bool:
    """Whether a loss wants the labels; those of other packages, which do not say, want logits alone."""
    return getattr(loss, 'needs_target', False)


def _is_batch_wise(loss: nn.Module) -> bool:
    """Whether a loss compares the samples of a batch; those of other packages, which do not say, count as not."""
    return getattr(loss, 'batch_wise', False)


def _scaled(losses: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Multiply the terms that are trained; others, such as an accuracy, are only shown."""
    return {name: factor * value if 'loss' in name else value for name, value in losses.items()}


def _labels(data_samples: list[DataSample]) -> Tensor:
    """Class indices ``(N,)``, or class shares ``(N, num_classes)`` where the data preprocessor mixed the labels."""
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])
