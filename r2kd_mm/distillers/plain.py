"""Distil any network in any training loop, without MMEngine's Runner, registries or data samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from r2kd_mm.arguments import check_weights, is_number
from r2kd_mm.augmentations import BatchAugmentation, CutMix, ViewContext
from r2kd_mm.classifiers import check_single_label, classifier_logits
from r2kd_mm.distillers.combinations import FORBIDDEN, check_combinations
from r2kd_mm.distillers.objective import Batch, Objective, check_names
from r2kd_mm.distillers.step import Step
from r2kd_mm.distillers.views import AUGMENTED, CLEAN, Views
from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss
from r2kd_mm.pruning import MagnitudePruner, Pruner
from r2kd_mm.teachers.engine import TeacherEngine
from r2kd_mm.teachers.frozen import FrozenNetworks, apart_from
from r2kd_mm.teachers.targets import MAIN_MEMBER, Targets
from r2kd_mm.teachers.weighting import FixedWeights

PRUNED_MEMBER = 'pruned_teacher'
# the method's own parts, which are immutable
METHOD_PRUNER = MagnitudePruner(amount=0.1)
METHOD_AUGMENTATION = CutMix(alpha=1.0)
METHOD_TEACHER_WEIGHT = 0.7


class Distillation(Step):
    """Callable that maps images and labels to the named losses of one distillation step; train the student on the sum.

    The names and values are those of :class:`~r2kd_mm.distillers.LogitDistiller`: ``student.loss`` is the cross
    entropy on the clean images, ``clean.<name>`` and ``augmented.<name>`` are the distillation losses of each view.

    The teachers are frozen: in eval mode, without gradient. Call :meth:`to` to move them to a device; move the
    student yourself. In a distributed run the losses cover the batches of all processes, see ``gather``.

    Args:
        student: Maps images to logits ``(N, num_classes)``.
        teacher: Network with loaded weights that maps images to logits of the same shape, or any such function. A
            function is called as it is, so set eval mode yourself.
        losses: Name to loss; a name contains ``loss``.
        view: Makes the augmented view; ``None`` distils on the clean images only.
        pruner: Makes the pruned copy of the teacher; ``None`` learns from the teacher alone.
        teacher_weight: Weight of the full teacher's logits in the targets, in ``[0, 1]``; the pruned copy's logits have
            the weight ``1 - teacher_weight``.
        task_loss: Maps the student's logits and the labels to its own loss.
        task_loss_weight: Factor of the student's own loss, >= 0.
        consistency: Loss between the student's own logits of the two views; ``None`` adds no such loss.
        gather: With several processes, compute every loss over the batches of all processes.
        engine: How the teachers run, see :meth:`~r2kd_mm.teachers.engine.TeacherEngine.from_config`.
        mean: Channel means, shape ``(C,)``, in pixel units, that the images were normalised by; for AutoAugment.
        std: Channel standard deviations, same shape and units.

    Raises:
        ValueError: A part is missing or out of range, or does not fit the others.
        TypeError: ``pruner`` is given for a teacher that is not a network.

    Example:
        >>> import torch
        >>> from r2kd_mm.losses import KLDivergenceLoss
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)) for _ in range(2))
        >>> distillation = Distillation(student, teacher, {'loss_kd': KLDivergenceLoss(temperature=4.0)})
        >>> losses = distillation(torch.randn(8, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))
        >>> sorted(losses)
        ['clean.loss_kd', 'student.loss']
        >>> sum(losses.values()).backward()
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Callable[[Tensor], Tensor],
        losses: Mapping[str, nn.Module],
        *,
        view: BatchAugmentation | None = None,
        pruner: Pruner | None = None,
        teacher_weight: float = METHOD_TEACHER_WEIGHT,
        task_loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
        task_loss_weight: float = 1.0,
        consistency: nn.Module | None = None,
        gather: bool = True,
        engine: str | Mapping[str, Any] | TeacherEngine = 'exact',
        mean: Tensor | None = None,
        std: Tensor | None = None,
    ) -> None:
        check_weights(task_loss_weight=task_loss_weight)
        check_teacher_weight(teacher_weight)
        check_combinations(FORBIDDEN, augmentation=view, consistency=consistency, losses=check_names(losses))
        check_single_label(student, 'student', trains=False)
        network = teacher if isinstance(teacher, nn.Module) else _Function(teacher)
        check_single_label(network, 'teacher', trains=False)
        networks = {MAIN_MEMBER: apart_from(student, network, MAIN_MEMBER)}
        shares = [1.0]
        if pruner is not None:
            if isinstance(network, _Function):
                raise TypeError(f'only a network can be pruned, got the teacher {teacher!r}; set pruner=None')
            networks[PRUNED_MEMBER], _ = pruner(copy.deepcopy(network))
            shares = [teacher_weight, 1 - teacher_weight]
        super().__init__(
            Views(view, partial(ViewContext, mean=_per_channel(mean), std=_per_channel(std))),
            Targets(FrozenNetworks(networks), FixedWeights(shares), TeacherEngine.from_config(engine)),
            NetworkStudent(student, task_loss),
            Objective(losses, view, task_loss_weight, gather, consistency),
        )

    @classmethod
    def r2kd(
        cls,
        student: nn.Module,
        teacher: nn.Module,
        *,
        view: BatchAugmentation | None = METHOD_AUGMENTATION,
        pruner: Pruner | None = METHOD_PRUNER,
        teacher_weight: float = METHOD_TEACHER_WEIGHT,
        **options: Any,
    ) -> Distillation:
        """Make the step of R2KD, see :class:`~r2kd_mm.distillers.R2KD`."""
        losses = dict(loss_value=CorrelationDistanceLoss(), loss_rank=RankDistanceLoss())
        return cls(student, teacher, losses, view=view, pruner=pruner, teacher_weight=teacher_weight, **options)

    def to(self, *args: Any, **kwargs: Any) -> Distillation:
        """Move the teachers to a device or a type, as ``nn.Module.to`` does."""
        self.targets.convert(lambda tensor: tensor.to(*args, **kwargs))
        return self

    def as_module(self) -> StudentModule:
        """Return a module that maps images and labels to the losses, to wrap in ``DistributedDataParallel``.

        A step runs the student once a view, and a wrapper of the student alone allows one forward pass a step.
        """
        return StudentModule(self)


class StudentModule(nn.Module):
    """The student of a :class:`Distillation`, as a module whose ``forward`` is the step.

    Attributes:
        student: The network that is trained; no other parameters are in the module.

    Args:
        distillation: Its teachers move along with the module.
    """

    def __init__(self, distillation: Distillation) -> None:
        super().__init__()
        self.student = cast(NetworkStudent, distillation.student).network
        self._distillation = distillation

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the losses by name, see :class:`~r2kd_mm.distillers.step.Step`."""
        return self._distillation(images, labels)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> StudentModule:
        super()._apply(fn, recurse)
        self._distillation.targets.convert(fn)
        return self


class NetworkStudent:
    """Run a network that maps images to logits.

    Args:
        network: The network.
        task_loss: Maps logits and labels to the network's own loss.
    """

    def __init__(self, network: nn.Module, task_loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.network = network
        self.task_loss = task_loss

    def sub_networks(self) -> Iterator[tuple[str, float]]:
        """Yield the network as it is."""
        yield '', 1.0

    def __call__(self, batch: Batch, view: Tensor | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss and the logits by view, see :class:`~r2kd_mm.distillers.step.Student`."""
        logits = {CLEAN: classifier_logits(self.network, batch.images)}
        if view is not None:
            logits[AUGMENTED] = classifier_logits(self.network, view)
        return {'loss': self.task_loss(logits[CLEAN], batch.labels)}, logits


class _Function(nn.Module):
    """A function of the images as a network without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def __deepcopy__(self, memo: dict) -> _Function:
        return self  # it may hold what cannot be copied, such as a session

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def _per_channel(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.reshape(-1, 1, 1)


def check_teacher_weight(teacher_weight: float) -> None:
    """Refuse a share that is none.

    Raises:
        ValueError: It is not in ``[0, 1]``.
    """
    if not (is_number(teacher_weight) and 0 <= teacher_weight <= 1):
        raise ValueError(
            f'teacher_weight is the share of the full teacher next to its pruned copy and must be in [0, 1], got '
            f'{teacher_weight!r}'
        )
