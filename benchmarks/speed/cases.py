"""Define the training steps that step_time.py times: a method as published, our distiller, the student, mmrazor."""

from __future__ import annotations

import copy
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from common import Networks, bare_update
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from r2kd_mm.augmentations import BatchAugmentation, ViewContext
from r2kd_mm.augmentations.draws import BatchDraws
from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.distillers.student import compile_backbone_, keep_channels_last_, logits_module
from r2kd_mm.export.teachers import write_teacher
from r2kd_mm.networks.files import FileNetwork
from r2kd_mm.registry import MODELS, build_component
from r2kd_mm.teachers.frozen import FrozenNetworks
from r2kd_mm.teachers.replay import Replay

PUBLISHED = 'published recipe'
MMRAZOR = 'mmrazor DIST'


@dataclass(frozen=True)
class Variant:
    """The settings of our distiller in one timed case.

    Attributes:
        fields: Fields of the model, with dots for those of their fields.
        amp: Whether the student runs under bf16 autocast.
        exact: Whether the losses must be those of the published recipe.
        replay: Whether the teachers' logits are read from disk, where the first step has put them.
        files: Precision of the ONNX files that the teachers are; ``None`` for networks of PyTorch.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    amp: bool = False
    exact: bool = False
    replay: bool = False
    files: str | None = None

    @property
    def floor(self) -> tuple[bool, bool, bool]:
        """The settings that the student alone shares with this variant: autocast, channels_last, compiled."""
        return self.amp, bool(self.fields.get('channels_last')), bool(self.fields.get('compile_student'))


VARIANTS = {
    'plain': Variant(dict(teacher_engine='plain'), exact=True),
    'exact': Variant(dict(teacher_engine='exact', channels_last=True), exact=True),
    'fast': Variant(dict(teacher_engine='fast', channels_last=True), amp=True),
    'replay': Variant(dict(channels_last=True), replay=True),
    'replay fast': Variant(dict(channels_last=True), amp=True, replay=True),
    'files': Variant(dict(channels_last=True), exact=True, files='float32'),
    'int8 files': Variant(dict(channels_last=True), files='int8'),
}
# files are computed on the CPU, by a package of the extra export
DEFAULT_VARIANTS = [(name, variant) for name, variant in VARIANTS.items() if variant.files is None]


class Case(ABC):
    """A way to train the student; all start from the same weights.

    Attributes:
        student: The classifier that is trained.
        optim_wrapper: Wrapper of its optimizer.
        watched: Part of the step to objects and the names of their methods that do this part.
    """

    student: nn.Module
    optim_wrapper: OptimWrapper
    watched: dict[str, list[tuple[Any, str]]]

    @abstractmethod
    def step(self, data: dict) -> Mapping[str, Tensor]:
        """Train on a batch; return the losses by name."""


class SameDraws(BatchAugmentation):
    """An augmentation whose n-th view has the same draws in every case.

    Args:
        augmentation: Augmentation that makes the view.
    """

    def __init__(self, augmentation: BatchAugmentation) -> None:
        self.augmentation = augmentation
        self.keeps_labels = augmentation.keeps_labels
        self.mixes_images = augmentation.mixes_images
        self.depends_on_batch = augmentation.depends_on_batch
        self.count = 0

    def __call__(self, images: Tensor, context: ViewContext) -> Tensor:
        """Return the view."""
        return self.view(images, context)

    def view(self, images: Tensor, context: ViewContext) -> Tensor:
        """Do the work of ``__call__``, as a method that can be watched."""
        if isinstance(context.draws, BatchDraws):
            context = replace(context, draws=BatchDraws(torch.Generator().manual_seed(self.count)))
        self.count += 1
        return self.augmentation(images, context)


class Published(Case):
    """The recipe as it is published: eager float32, each network once a view, and a bare loop.

    Args:
        distiller: Distiller with the teachers, losses, augmentation and data preprocessor.
        networks: Networks with the student and its optimizer.
    """

    def __init__(self, distiller: Any, networks: Networks) -> None:
        self.student = copy.deepcopy(networks.student).to(get_device()).train()
        self.optim_wrapper = networks.optim_wrapper(self.student)
        self.task_loss = task_loss(self.student)
        self.task_loss_weight = distiller.step.objective.task_loss_weight
        self.teacher, *pruned = distiller.teachers.values()
        self.pruned_teacher = pruned[0] if pruned else None
        self.teacher_weight = getattr(distiller, 'teacher_weight', 1.0)
        self.losses = dict(distiller.distillation_losses.items())
        self.augmentation = distiller.augmentation
        self.preprocessor = distiller.data_preprocessor
        self.watched = {
            'preprocessing': [(self.preprocessor, 'forward')],
            'teachers': [(teacher, 'forward') for teacher in distiller.teachers.values()],
            'augmentation': [(self.augmentation, 'view')] if self.augmentation else [],
            'student forward': [(self.student, 'forward')],
            'losses': [(loss, 'forward') for loss in (self.task_loss, *self.losses.values())],
        }

    def step(self, data: dict) -> dict[str, Tensor]:
        """Train on a batch; return the losses by the names of :class:`~r2kd_mm.distillers.LogitDistiller`."""
        images = self.preprocessor(dict(inputs=data['inputs']))['inputs']
        labels = torch.cat([sample.gt_label for sample in data['data_samples']]).to(images.device)

        student_logits = self.student(images, mode='tensor')
        losses = {'student.loss': self.task_loss_weight * self.task_loss(student_logits, labels)}
        losses |= self.distil('clean', images, student_logits, labels)
        if self.augmentation is not None:
            draws = BatchDraws(torch.Generator().manual_seed(0))
            context = ViewContext.behind(self.preprocessor, draws, lambda batch: self.teacher(batch, mode='tensor'))
            with torch.no_grad():
                view = self.augmentation(images, context)
            view_labels = labels if self.augmentation.keeps_labels else None
            losses |= self.distil('augmented', view, self.student(view, mode='tensor'), view_labels)

        bare_update(sum(losses.values()), self.optim_wrapper)
        return losses

    def distil(self, name: str, images: Tensor, student_logits: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Compute the distillation losses of a view; losses that need labels only where there are labels."""
        with torch.no_grad():
            target = self.teacher(images, mode='tensor')
            if self.pruned_teacher is not None:
                pruned_logits = self.pruned_teacher(images, mode='tensor')
                target = self.teacher_weight * target + (1 - self.teacher_weight) * pruned_logits
        losses = {}
        for key, loss in self.losses.items():
            if not getattr(loss, 'needs_target', False):
                losses[f'{name}.{key}'] = loss(student_logits, target)
            elif labels is not None:
                losses[f'{name}.{key}'] = loss(student_logits, target, labels)
        return losses


class Ours(Case):
    """The distiller of the config through MMEngine's ``train_step``.

    Args:
        distiller: The distiller.
        networks: Networks with the optimizer.
        amp: Whether the student runs under bf16 autocast.
    """

    def __init__(self, distiller: Any, networks: Networks, amp: bool) -> None:
        self.distiller = distiller
        self.student = distiller.architecture
        self.optim_wrapper = networks.optim_wrapper(distiller, amp)
        targets = distiller.step.targets
        replayed = [] if targets.replay is None else [(targets.replay, name) for name in ('read', 'write')]
        self.watched = {
            'preprocessing': [(distiller.data_preprocessor, 'forward')],
            'teachers': [(targets, 'ask'), *replayed],
            'augmentation': [(distiller.augmentation, 'view')] if distiller.augmentation else [],
            'student forward': [(self.student, 'forward')],
            'losses': [
                (loss, 'forward') for loss in (task_loss(self.student), *distiller.distillation_losses.values())
            ],
        }

    def step(self, data: dict) -> Mapping[str, Tensor]:
        """Train on a batch; return what is logged."""
        return self.distiller.train_step(data, self.optim_wrapper)


class StudentAlone(Case):
    """The floor: the student on as many views as the distillation has, without a teacher.

    Args:
        networks: Networks with the student and its optimizer.
        preprocessor: Data preprocessor.
        num_views: Number of views. The first has the student's own loss, the others a loss that costs nothing.
        amp: Whether it runs under bf16 autocast.
        channels_last: Whether images and weights have that memory format.
        compiled: Whether its backbone is compiled.
    """

    def __init__(
        self,
        networks: Networks,
        preprocessor: nn.Module,
        num_views: int,
        amp: bool = False,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.student = copy.deepcopy(networks.student).to(get_device()).train()
        if channels_last:
            keep_channels_last_(self.student)
        self.optim_wrapper = networks.optim_wrapper(self.student)
        self.task_loss = task_loss(self.student)
        self.preprocessor = preprocessor
        self.num_views = num_views
        self.amp = amp
        if compiled:
            compile_backbone_(self.student)
        self.watched = {
            'preprocessing': [(preprocessor, 'forward')],
            'student forward': [(self.student, 'forward')],
            'losses': [(self.task_loss, 'forward')],
        }

    def step(self, data: dict) -> dict[str, Tensor]:
        """Train on a batch."""
        images = self.preprocessor(dict(inputs=data['inputs']))['inputs'].contiguous(memory_format=self.memory_format)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']]).to(images.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.amp):
            logits = [classifier_logits(self.student, images) for _ in range(self.num_views)]
        loss = self.task_loss(logits[0].float(), labels) + sum(view.float().square().mean() for view in logits[1:])
        bare_update(loss, self.optim_wrapper)
        return dict(loss=loss)


class MMRazor(Case):
    """mmrazor's ``SingleTeacherDistill`` with DIST: the teacher and the student once, on the clean images.

    Args:
        networks: The networks.
        preprocessor: Data preprocessor.
    """

    def __init__(self, networks: Networks, preprocessor: nn.Module) -> None:
        head = next(name for name, part in networks.student.named_children() if part is logits_module(networks.student))
        self.algorithm: Any = MODELS.build(
            dict(
                type='mmrazor.SingleTeacherDistill',
                architecture=copy.deepcopy(networks.student),
                teacher=copy.deepcopy(networks.teacher),
                data_preprocessor=preprocessor,
                distiller=dict(
                    type='mmrazor.ConfigurableDistiller',
                    student_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source=head)),
                    teacher_recorders=dict(logits=dict(type='mmrazor.ModuleOutputs', source=head)),
                    distill_losses=dict(loss_dist=dict(type='mmrazor.DISTLoss', tau=4.0)),
                    loss_forward_mappings=dict(
                        loss_dist=dict(
                            logits_S=dict(from_student=True, recorder='logits'),
                            logits_T=dict(from_student=False, recorder='logits'),
                        )
                    ),
                ),
            )
        )
        self.algorithm.to(get_device()).train()
        self.student = self.algorithm.architecture
        self.optim_wrapper = networks.optim_wrapper(self.algorithm)
        self.watched = {
            'preprocessing': [(preprocessor, 'forward')],
            'teachers': [(self.algorithm.teacher, 'forward')],
            'student forward': [(self.student, 'forward')],
            'losses': [
                (task_loss(self.student), 'forward'),
                (self.algorithm.distiller.distill_losses['loss_dist'], 'forward'),
            ],
        }

    def step(self, data: dict) -> Mapping[str, Tensor]:
        """Train on a batch; return what is logged."""
        return self.algorithm.train_step(data, self.optim_wrapper)


def task_loss(student: Any) -> nn.Module:
    """Return the module that computes the own loss of a classifier of mmpretrain."""
    return getattr(student, 'head', student).loss_module


def build_cases(
    networks: Networks, variants: Mapping[str, Variant], num_images: int, seen: Tensor
) -> tuple[dict[str, Case], dict[str, str]]:
    """Build every case by name, and name the floor of each variant.

    Args:
        networks: Networks that all cases start from.
        variants: Name to settings.
        num_images: Images of a batch.
        seen: Normalised images that teachers in int8 are calibrated on.
    """
    augmentation = networks.cfg.model.get('augmentation')
    if augmentation is not None:
        augmentation = build_component(augmentation, 'augmentation', 'r2kd_mm.augmentations')

    def distiller(variant: Variant) -> Any:
        of_variant = augmentation
        if variant.replay and hasattr(augmentation, 'per_image'):
            of_variant = replace(augmentation, per_image=True)  # each image draws for itself
        parts = dict(augmentation=None if of_variant is None else SameDraws(of_variant))
        if variant.replay:
            parts['replay'] = Replay(tempfile.mkdtemp(prefix='step_time_'), dtype='float32')
        model = networks.distiller(variant.fields, **parts)
        if variant.replay:
            model.open_replay({}, seed=0, num_images=num_images, cycle=1)
        if variant.files:
            model.step.targets.networks = written(model.teachers, seen, variant.files)
        return model

    source = distiller(Variant())
    cases: dict[str, Case] = {PUBLISHED: Published(source, networks)}
    floors = {}
    for name, variant in variants.items():
        cases[name] = Ours(distiller(variant), networks, variant.amp)
        floors[name] = f'student alone, {floor_name(*variant.floor)}'
        if floors[name] not in cases:
            num_views = 1 if augmentation is None else 2
            cases[floors[name]] = StudentAlone(networks, source.data_preprocessor, num_views, *variant.floor)
    cases[MMRAZOR] = MMRazor(networks, source.data_preprocessor)
    return cases, floors


def written(teachers: Mapping[str, nn.Module], seen: Tensor, precision: str) -> FrozenNetworks:
    """Write the teachers as ONNX files, and return these."""
    folder = Path(tempfile.mkdtemp(prefix='step_time_'))
    for name, network in teachers.items():
        write_teacher(copy.deepcopy(network), seen, folder / f'{name}.onnx', precision)
    return FrozenNetworks({name: FileNetwork(str(folder / f'{name}.onnx')) for name in teachers})


def floor_name(amp: bool, channels_last: bool, compiled: bool) -> str:
    """Format settings, such as ``bf16 channels_last``."""
    words = ['bf16' if amp else 'float32', 'channels_last' if channels_last else '', 'compiled' if compiled else '']
    return ' '.join(word for word in words if word)
