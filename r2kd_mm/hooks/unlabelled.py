"""Refuse unlabelled images where a run needs every label: for validation, or for a loss such as DKD.

Also refuse a sampler that may fill a batch with unlabelled images only.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.distillers.objective import needs_target
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine import UnlabelledShareSampler


def check_unlabelled(model: nn.Module, name: str, loader: DataLoader, count: int) -> None:
    """Raise if a loader with unlabelled images is for validation, or if model or sampler cannot handle such images.

    Args:
        model: The model that the run trains.
        name: Name of the data loader.
        loader: Data loader for training or validation.
        count: Number of images without labels.

    Raises:
        ValueError: The loader is not for training; the model is no distiller; a part of the distiller needs labels; or
            the sampler is not an ``UnlabelledShareSampler`` with the batch size of the loader.
    """
    has = f'{name} has {count} images without labels'
    if name != 'train_dataloader':
        raise ValueError(f'{has}, and an accuracy needs them all; take WithUnlabelled out of it')
    if not isinstance(model, LogitDistiller):
        raise ValueError(
            f'{has}, and a {type(model).__name__} learns from labels alone; train it on the labelled ones, or distil a '
            'teacher by a LogitDistiller'
        )
    for owner, remedy in _needing_labels(model):
        raise ValueError(f'{has}, and {owner}; {remedy}, or train without these images')
    sampler: Any = getattr(loader.sampler, 'sampler', loader.sampler)  # of a ResumableTrainLoop, within a SeededSampler
    expected = f'UnlabelledShareSampler(batch_size={loader.batch_size})'
    if not isinstance(sampler, UnlabelledShareSampler):
        raise ValueError(
            f'{has}, and {type(sampler).__name__} may give a batch without any label; take {expected} as its sampler'
        )
    if sampler.batch_size != loader.batch_size:
        raise ValueError(
            f'{has}, and its sampler has batch_size={sampler.batch_size} while the data loader has batch_size='
            f'{loader.batch_size}; set both to the same number: {expected}'
        )


def _needing_labels(model: LogitDistiller) -> list[tuple[str, str]]:
    """List what of a distiller needs the labels of all images, and the way out."""
    found = []
    losses = [name for name, loss in model.distillation_losses.items() if needs_target(loss)]
    if losses:
        found.append(
            (f'{", ".join(losses)} needs labels', 'take losses that need none, such as those of KD, DIST or R2KD')
        )
    if model.weighting is not None and model.weighting.is_learned:
        found.append(('LearnedWeights need labels', 'take FixedWeights or ConfidenceWeights'))
    prepares: Any = model.data_preprocessor
    if getattr(prepares, 'batch_augments', None) is not None or getattr(prepares, 'to_onehot', False):
        found.append(
            (
                'batch_augments or to_onehot of the data_preprocessor mixes labels',
                'take them out; the augmentation of the distiller mixes images and needs no label',
            )
        )
    if model.replay is not None:
        found.append(('a replay needs the same images in each epoch', 'leave replay out'))
    head = getattr(unwrap_student(model.architecture), 'head', None)
    if head is not None and 'target' in inspect.signature(head.forward).parameters:
        found.append((f'the {type(head).__name__} of the student takes labels for its logits', 'take another head'))
    return found
