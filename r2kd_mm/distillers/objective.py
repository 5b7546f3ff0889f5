"""Compute the losses of one training step from student and teacher logits, on clean and on augmented images.

Each loss has a factor, and can compare the images of all processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import Tensor, nn

from r2kd_mm.augmentations import BatchAugmentation
from r2kd_mm.distillers.gathering import LogitGatherer, ViewLogits
from r2kd_mm.distillers.views import AUGMENTED, CLEAN
from r2kd_mm.labels import labelled_rows

Losses = Mapping[str, nn.Module] | nn.ModuleDict
Acting = Mapping[str, Mapping[str, float]]
Part = Callable[[Callable[[], Tensor], float], dict[str, Tensor]]


class Batch:
    """Batch of preprocessed images, with their labels or data samples.

    Attributes:
        images: Shape ``(N, C, H, W)``.
        samples: Data samples, which hold the labels and identify the images; ``None`` if neither is needed.

    Example:
        >>> Batch(torch.zeros(2, 3, 8, 8), labels=torch.tensor([4, 2])).labels
        tensor([4, 2])
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None, samples: Sequence[Any] | None = None) -> None:
        self.images = images
        self.samples = samples
        self._labels = labels

    @cached_property
    def labelled(self) -> list[int] | None:
        """Rows of the images that have a label; ``None`` where all have one.

        Raises:
            ValueError: None has one.
        """
        rows = None if self.samples is None else labelled_rows(self.samples)
        if rows is not None and not rows:
            raise ValueError(
                'no image of a batch has a label, and the student has a loss of its own; take UnlabelledShareSampler '
                'as the sampler of train_dataloader'
            )
        return rows

    @property
    def labelled_samples(self) -> Sequence[Any] | None:
        """The samples that have a label."""
        if self.labelled is None or self.samples is None:
            return self.samples
        return [self.samples[row] for row in self.labelled]

    @property
    def num_labelled(self) -> int:
        """Number of images that have a label."""
        return len(self.images) if self.labelled is None else len(self.labelled)

    @cached_property
    def labels(self) -> Tensor:
        """Class indices ``(N,)``, or class shares ``(N, num_classes)``.

        Raises:
            ValueError: An image has none.
        """
        if self.labelled is not None:
            raise ValueError(
                f'a loss of this step needs the labels of all images, and {len(self.images) - self.num_labelled} of '
                f'{len(self.images)} have none; take losses that need no labels, or train without unlabelled images'
            )
        if self._labels is not None:
            return self._labels
        if self.samples is None:
            raise ValueError('a loss of this step needs labels, and the batch has none; give labels of shape (N,)')
        if 'gt_score' in self.samples[0]:  # the data preprocessor has mixed the labels
            return torch.stack([sample.gt_score for sample in self.samples])
        return torch.cat([sample.gt_label for sample in self.samples])


class Objective:
    """Compute the losses of one step from the logits of student and teachers.

    Attributes:
        loss_scales: Factor of each distillation loss, by name; 0 leaves the loss out.
        augmented_scale: Factor of all losses of the augmented view; 0 skips the view.
        stopped: Whether the student learns by its own loss alone.

    Args:
        losses: Name to loss.
        augmentation: Augmentation of the second view. Losses that need labels do not act there if it mixes the labels.
        task_loss_weight: Factor of the student's own loss.
        gather: See :class:`~r2kd_mm.distillers.LogitDistiller`.
        consistency: See :class:`~r2kd_mm.distillers.LogitDistiller`.
        parts: More losses, each a function of the labels and of this process's share.

    Example:
        >>> from r2kd_mm.losses import KLDivergenceLoss
        >>> objective = Objective(dict(loss_kd=KLDivergenceLoss()))
        >>> objective.acting()
        {'clean': {'loss_kd': 1.0}}
        >>> objective.set_loss_scale('loss_kd', 0.0)
        >>> objective.acting()
        {}
    """

    def __init__(
        self,
        losses: Losses,
        augmentation: BatchAugmentation | None = None,
        task_loss_weight: float = 1.0,
        gather: bool = True,
        consistency: nn.Module | None = None,
        parts: Sequence[Part] = (),
    ) -> None:
        self.losses = losses
        self.task_loss_weight = task_loss_weight
        self.gather = gather
        self.consistency = consistency
        self.parts = parts
        self.loss_scales = dict.fromkeys(losses, 1.0)
        self.augmented_scale = 1.0
        self.stopped = False
        self._augmented_losses = _losses_of_view(losses, augmentation)
        self._has_augmented_view = augmentation is not None
        self._gatherer = LogitGatherer()

    @property
    def batch_wise(self) -> list[str]:
        """Names of the losses that compare the samples of a batch; a loss that does not say counts as none."""
        losses = {**self.losses, 'consistency': self.consistency}
        return [name for name, loss in losses.items() if getattr(loss, 'batch_wise', False)]

    def set_loss_scale(self, name: str, scale: float) -> None:
        """Multiply the distillation loss ``name`` by ``scale`` >= 0 from now on; 0 leaves it out.

        Where nothing is left to distil, the teachers are not run either.

        Raises:
            ValueError: There is no such loss.
        """
        if name not in self.loss_scales:
            raise ValueError(f'there is no distillation loss {name!r}; this model has {sorted(self.loss_scales)}')
        self.loss_scales[name] = scale

    def set_augmented_scale(self, scale: float) -> None:
        """Multiply all losses of the augmented view by ``scale`` >= 0 from now on; 0 skips the view.

        Raises:
            ValueError: There is no augmented view.
        """
        if not self._has_augmented_view:
            raise ValueError('this model has no augmented view to schedule; give it an augmentation')
        self.augmented_scale = scale

    def acting(self) -> dict[str, dict[str, float]]:
        """Return the factor of every loss that acts now, by view and name; views without any are left out."""
        if self.stopped:
            return {}
        clean = {name: scale for name, scale in self.loss_scales.items() if scale > 0}
        augmented = {name: clean[name] * self.augmented_scale for name in self._augmented_losses if name in clean}
        views = {CLEAN: clean, AUGMENTED: augmented if self.augmented_scale > 0 else {}}
        return {view: losses for view, losses in views.items() if losses}

    def __call__(
        self,
        batch: Batch,
        task_losses: Mapping[str, Tensor],
        student_logits: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        acting: Acting,
    ) -> dict[str, Tensor]:
        """Return the losses by name.

        Args:
            batch: The images and labels.
            task_losses: The student's own losses.
            student_logits: Shape ``(N, C)``, by view.
            targets: The logits to learn from, same shapes, by view.
            acting: See :meth:`acting`.
        """
        views = {}
        for view, names in acting.items():
            needs_labels = any(needs_target(self.losses[name]) for name in names)
            labels = batch.labels if needs_labels else None
            views[view] = ViewLogits(student_logits[view], targets[view], labels)
        batch_wise = self.batch_wise
        whole, shares = self._in_all_processes(batch, views, acting)

        terms = scaled(task_losses, self.task_loss_weight * shares['task'])
        for part in self.parts:
            terms.update(part(lambda: batch.labels, shares['images']))
        for view, losses in acting.items():
            for name, scale in losses.items():
                loss = self.losses[name]
                seen, share = (whole[view], 1.0) if name in batch_wise else (views[view], shares[view])
                target = (seen.labels,) if needs_target(loss) else ()
                terms[f'{view}.{name}'] = scale * share * loss(seen.student, seen.teacher, *target)
        if self.consistency is not None and AUGMENTED in views:
            seen_views, share = (whole, 1.0) if 'consistency' in batch_wise else (views, shares[AUGMENTED])
            term = self.consistency(seen_views[AUGMENTED].student, seen_views[CLEAN].student.detach())
            terms['consistency.loss'] = self.augmented_scale * share * term
        return terms

    def _in_all_processes(
        self, batch: Batch, views: dict[str, ViewLogits], acting: Acting
    ) -> tuple[dict[str, ViewLogits], dict[str, float]]:
        """Return the views of all processes together, and this process's shares.

        These are of each view, of the images with a label (``'task'``), and of all images (``'images'``).
        """
        images = len(batch.images)
        counts = dict(
            task=batch.num_labelled, images=images, **{name: len(view.student) for name, view in views.items()}
        )
        if not self.gather or get_world_size() == 1:
            return views, dict.fromkeys(counts, 1.0)
        names = {name for losses in acting.values() for name in losses}
        if AUGMENTED in acting:
            names.add('consistency')
        if names.isdisjoint(self.batch_wise):
            return views, self._gatherer.shares(counts, batch.images.device)
        whole, shares = self._gatherer.gather(views, images - batch.num_labelled)
        return whole, {'images': shares[CLEAN], **shares}


def check_names(losses: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the losses; refuse names that MMEngine would show and not train.

    Example:
        >>> check_names(dict(kd='...'))
        Traceback (most recent call last):
        ...
        ValueError: the name of a loss must contain 'loss', because MMEngine trains only such terms, and no
        dot, got 'kd'; call it 'loss_kd'
    """
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


def needs_target(loss: nn.Module) -> bool:
    """Return whether a loss wants the labels; losses of other packages, which do not say, want logits alone.

    Example:
        >>> from r2kd_mm.losses import DKDLoss, KLDivergenceLoss
        >>> needs_target(DKDLoss()), needs_target(KLDivergenceLoss())
        (True, False)
    """
    return getattr(loss, 'needs_target', False)


def scaled(losses: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Multiply the terms that are trained; others, such as an accuracy, are only shown.

    Example:
        >>> scaled(dict(loss=torch.tensor(2.0), accuracy=torch.tensor(50.0)), 0.5)
        {'loss': tensor(1.), 'accuracy': tensor(50.)}
    """
    return {name: factor * value if 'loss' in name else value for name, value in losses.items()}


def _losses_of_view(losses: Losses, augmentation: BatchAugmentation | None) -> tuple[str, ...]:
    """Return the names of the losses of the augmented view: without those that need labels which are mixed there."""
    if augmentation is None:
        return ()
    left_out = [] if augmentation.keeps_labels else [name for name, loss in losses.items() if needs_target(loss)]
    if left_out:
        print_log(
            f'{", ".join(left_out)} need labels, which {type(augmentation).__name__} mixes: they act on '
            'the clean images only',
            logger='current',
            level=logging.WARNING,
        )
    return tuple(name for name in losses if name not in left_out)
