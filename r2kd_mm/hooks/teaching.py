"""Refuse, before the first step, losses that have zero gradient with the run's number of classes or batch size.

Also refuse images with several labels, and soft labels that are not a probability distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import LogitLoss, LossPart
from r2kd_mm.losses._checks import are_distributions

WITH_TWO_CLASSES = 'KLDivergenceLoss, CorrelationDistanceLoss, DKDLoss or MLKDLoss'


def check_losses(
    distiller: LogitDistiller, num_classes: int | None, loader: DataLoader, processes: int, logger: MMLogger
) -> None:
    """Raise if a loss has zero gradient with this number of classes and batch size; warn if only a part has none.

    Losses of other packages do not declare what they need, and are not checked.

    Args:
        distiller: The model with the losses.
        num_classes: Number of classes of the head; ``None`` if the head does not state it.
        loader: Data loader of the training.
        processes: Number of processes of the run.
        logger: Logger for the warnings.

    Raises:
        ValueError: All parts of a loss have zero gradient, or no loss of the run can have a gradient by its settings.
    """
    full, last = batch_sizes(loader)
    losses = {**distiller.distillation_losses, 'consistency': distiller.consistency}
    stated = {name: loss for name, loss in losses.items() if isinstance(loss, LogitLoss)}
    shown = [name for name, loss in stated.items() if not loss.parts]
    if distiller.features is None and set(distiller.distillation_losses) <= set(shown):
        raise ValueError(
            f'nothing in this run teaches: {", ".join(shown)} by its settings is a value without gradient; set an '
            'estimator that trains, such as sigmoid, or weights above 0'
        )
    for name in shown:
        logger.warning(f'{name} trains nothing: by its settings it is a value without gradient, and only logged.')
    for name, loss in stated.items():
        factor = processes if distiller.step.objective.gather and loss.batch_wise else 1
        images, images_at_end = (None if size is None else size * factor for size in (full, last))
        silent = [part for part in loss.parts if part.is_silent(num_classes, images)]
        facts = _facts(silent, num_classes, images)
        if silent and len(silent) == len(loss.parts):
            raise ValueError(
                f'{name} teaches nothing with {facts}: the gradient of {type(loss).__name__} is exactly zero there '
                f'({_needs(silent, num_classes)}); {_way_out(silent, num_classes)}'
            )
        if silent:
            logger.warning(f'A part of {name} teaches nothing with {facts}: {_needs(silent, num_classes)}.')
        silent_at_end = [part for part in loss.parts if part not in silent and part.is_silent(None, images_at_end)]
        if silent_at_end:
            logger.warning(
                f'{name} teaches less in the last batch of an epoch, of {_count(images_at_end, "image")}: '
                f'{_needs(silent_at_end, num_classes)}; set drop_last=True in train_dataloader to leave it out.'
            )


def batch_sizes(loader: DataLoader) -> tuple[int | None, int | None]:
    """Images of a full batch of this process and of the last one of an epoch; ``None`` where the loader hides them."""
    if loader.batch_size is None:
        return None, None
    try:
        images = len(loader.sampler)  # type: ignore[arg-type]  # most samplers have a length
    except TypeError:  # of a stream
        return loader.batch_size, loader.batch_size
    if isinstance(loader.sampler, InfiniteSampler):
        return loader.batch_size, loader.batch_size
    full = min(loader.batch_size, images)
    rest = 0 if loader.drop_last else images % loader.batch_size
    return full, rest or full


def check_one_label_each(data_samples: Sequence[DataSample]) -> None:
    """Refuse a batch with a sample that has several labels, or class shares that are no distribution.

    Raises:
        ValueError: There is one.
    """
    if 'gt_score' in data_samples[0]:
        are_good = bool(are_distributions(torch.stack([sample.gt_score for sample in data_samples])).all())
    else:
        are_good = all(len(sample.gt_label) == 1 for sample in data_samples)
    if are_good:  # seen in every step, and so at once
        return
    for index, sample in enumerate(data_samples):
        path = sample.get('img_path')
        owner = f'image {index} of a batch{f" ({path})" if path else ""}'
        check_label(owner, sample.get('gt_label', 0), sample.get('gt_score'))


def check_label(owner: str, label: object, shares: object = None) -> None:
    """Refuse several labels of one image, and class shares that are no distribution.

    Args:
        owner: Names the image.
        label: Its class index.
        shares: Its share of each class, if any, which stands for the label.

    Raises:
        ValueError: It has such labels.
    """
    if shares is not None:
        values = torch.as_tensor(shares, dtype=torch.float64)
        if are_distributions(values):
            return
        fault = f'a gt_score that sums to {values.sum():g} with {values.min():g} as the smallest share'
    elif np.asarray(label).size == 1:
        return
    else:
        fault = f'the labels {np.asarray(label).tolist()}'
    raise ValueError(
        f'{owner} has {fault}; logit distillation takes a softmax over the classes, of which one is right: give each '
        'image one label, or shares of the classes that sum to 1'
    )


def _needs(parts: Iterable[LossPart], num_classes: int | None) -> str:
    """Say what each part needs, such as ``ranks of the classes: from 3 classes``."""
    return '; '.join(
        f'{part.name}: from {_count(part.min_classes, "class")}'
        if num_classes is not None and num_classes < part.min_classes
        else f'{part.name}: from {_count(part.min_images, "image")}'
        for part in parts
    )


def _facts(parts: Iterable[LossPart], num_classes: int | None, images: int | None) -> str:
    """The numbers that are too small, in words."""
    few_classes = any(part.is_silent(num_classes, None) for part in parts)
    few_images = any(part.is_silent(None, images) for part in parts)
    facts = [_count(num_classes, 'class')] * few_classes + [f'{_count(images, "image")} a batch'] * few_images
    return ' and '.join(facts)


def _way_out(parts: Sequence[LossPart], num_classes: int | None) -> str:
    if not any(part.is_silent(num_classes, None) for part in parts):
        return 'take a larger train_dataloader.batch_size'
    if num_classes == 2:
        return f'leave it out of losses, or take a loss that teaches with 2 classes: {WITH_TWO_CLASSES}'
    return f'give the head at least {_count(min(part.min_classes for part in parts), "class")}'


def _count(number: int | None, noun: str) -> str:
    plural = f'{noun}es' if noun.endswith('s') else f'{noun}s'
    return f'{number} {noun if number == 1 else plural}'
