"""Load real images for an export: to compare logits, to measure accuracy and to calibrate int8.

The images come from the data sets of the run, or from a folder that the user gives.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from torch import Tensor
from torch.utils.data import Dataset

from r2kd_mm.compat import MisnamedClasses
from r2kd_mm.engine.classes import classes_of
from r2kd_mm.engine.wrapped_data import (
    LOADER,
    PACKER,
    data_info,
    data_preprocessor_of,
    flips_channels,
    gives_bgr,
    innermost_datasets,
    shared_pipeline,
)
from r2kd_mm.export.parts import check_parts
from r2kd_mm.export.preprocessing import Preprocessing, apply_transforms, list_images
from r2kd_mm.registry import DATASETS, MODELS

if TYPE_CHECKING:
    from r2kd_mm.export.student import Student

NUM_IMAGES = 8
CALIBRATION_IMAGES = 256
BATCH_SIZE = 32
DATALOADERS = (
    'val_dataloader',
    'test_dataloader',
    'train_dataloader',
)  # whose images an export takes, the first there is
MOST_DIFFERENT = 2.0  # of 0 to 255, mean over the pixels of an image: decoders of JPEG differ by less
# Said where a data set is not here.
COMPARED = (
    'the export is checked on real images, and the validation data of the run are not here ({}); give a folder of '
    'images by --images'
)
MEASURED = (
    'the accuracy is measured on the validation data of the run, which are not here ({}); give a config that says '
    'where they are by --config, or take --precision float32, which needs none'
)
CALIBRATED = (
    'the range of each layer is measured on images to train on, and the training data of the run are not here ({}); '
    'give a folder of such images by --calibration-images'
)
FIXING = ('Resize', 'CenterCrop')  # after these, images of every size have one


def look_at_images(
    run: dict[str, Any], folder: str | os.PathLike | None
) -> tuple[Preprocessing, Tensor, tuple[str, ...]]:
    """Return the preprocessing of a run, a batch of normalised images, and the class names (empty if unknown)."""
    normalise = data_preprocessor_of(run)
    name = next((name for name in DATALOADERS if run.get(name)), None)
    if name is None:
        raise ValueError(
            'the config of the run has no data loader, so nobody knows how its images were prepared; give the config '
            'of the run by --config'
        )
    loader = run[name]
    transforms = [step for step in shared_pipeline(loader, name) if step['type'] not in (LOADER, PACKER)]
    fixed = any(step['type'] in FIXING for step in transforms)

    if folder is None:
        dataset = _build_dataset(loader['dataset'], COMPARED)
        chosen = np.linspace(0, len(dataset) - 1, NUM_IMAGES).astype(int)
        pixels = default_collate([dataset[int(index)]['inputs'] for index in chosen])
        names = tuple(classes_of(dataset) or ())
        channels, height, width = pixels.shape[1:]
    else:
        paths, names = list_images(folder)[:NUM_IMAGES], ()
        channels = len(normalise.get('mean') or 'RGB')
        height, width = (not fixed and _crop_size(run)) or _common_size(paths, transforms)
    if not fixed:  # the data of the run are of one size, which other files need not be
        transforms.append(dict(type='Resize', scale=(width, height)))

    order = 'GRAY' if channels == 1 else 'BGR' if gives_bgr(loader, normalise) else 'RGB'
    mean, std = normalise.get('mean') or [0.0] * channels, normalise.get('std') or [1.0] * channels
    preprocessing = Preprocessing((channels, height, width), order, tuple(mean), tuple(std), tuple(transforms))
    normalised = _data_preprocessor(normalise, preprocessing)
    if folder is None:
        batch = normalised(pixels)
        _check_on_files(preprocessing, dataset, chosen.tolist(), batch)
    else:
        batch = torch.stack([preprocessing(path) for path in (paths * 2)[:NUM_IMAGES]])  # at least two
    return preprocessing, batch, names


def calibration_images(student: Student, folder: str | os.PathLike | None = None) -> Tensor:
    """Return :data:`CALIBRATION_IMAGES` images to train on, evenly spread, prepared as in validation: ``(N, C, H, W)``.

    Args:
        student: The student of the run.
        folder: Folder of images; ``None`` takes the training data of the run.

    Raises:
        FileNotFoundError: The training data are not here.
    """
    if folder is not None:
        paths = list_images(folder)[:CALIBRATION_IMAGES]
        return torch.stack([student.preprocessing(path) for path in paths])
    loader = student.run.get('train_dataloader')
    if not loader:
        raise FileNotFoundError(
            'the range of each layer is measured on images to train on, and the config of the run has no '
            'train_dataloader; give a folder of such images by --calibration-images'
        )
    return torch.cat([images for images, _ in _batches(student, loader, CALIBRATION_IMAGES, CALIBRATED)])


def validation_images(student: Student, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``count`` images to validate on, evenly spread, in batches ``(N, C, H, W)`` with their classes ``(N,)``.

    Raises:
        FileNotFoundError: The validation data are not here.
        ValueError: An image has several classes, or none.
    """
    loader = next((student.run[name] for name in DATALOADERS[:2] if student.run.get(name)), None)
    if loader is None:
        raise FileNotFoundError(
            'the accuracy is measured on the validation data, and the config of the run has no val_dataloader; give a '
            'config that has one by --config'
        )
    yield from _batches(student, loader, count, MEASURED)


def _batches(student: Student, loader: dict[str, Any], count: int, missing: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``count`` images of a loader's data set, prepared by the pipeline of validation, and their classes."""
    prepared = next(student.run[name] for name in DATALOADERS if student.run.get(name))
    pipeline = innermost_datasets(prepared['dataset'])[0]['pipeline']
    config = copy.deepcopy(loader['dataset'])
    for member in innermost_datasets(config):
        member['pipeline'] = copy.deepcopy(pipeline)
    normalised = _data_preprocessor(data_preprocessor_of(student.run), student.preprocessing)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        dataset = _build_dataset(config, missing)
        chosen = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
        for part in np.array_split(chosen, math.ceil(len(chosen) / BATCH_SIZE)):
            samples = [dataset[int(index)] for index in part]
            classes = [sample['data_samples'].get('gt_label') for sample in samples]
            if any(label is None or len(label) != 1 for label in classes):
                raise ValueError(
                    'the accuracy of an export is that of images with one class each; this data has others'
                )
            yield normalised(default_collate([sample['inputs'] for sample in samples])), torch.cat(classes)


def _data_preprocessor(normalise: dict[str, Any], preprocessing: Preprocessing) -> Callable[[Tensor], Tensor]:
    """Build the run's data preprocessor, and check that ``preprocessing`` normalises in the same way."""
    config = {'type': 'ClsDataPreprocessor', **normalise}
    config.pop('batch_augments', None)  # of training
    check_parts(config)
    module = MODELS.build(config)
    pixels = torch.rand(1, *preprocessing.shape, generator=torch.Generator().manual_seed(0)) * 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    flipped = pixels.flip(1) if flips_channels(normalise) and len(mean) == 3 else pixels
    given, expected = module(dict(inputs=pixels))['inputs'], (flipped - mean) / std
    if given.shape != expected.shape or not torch.allclose(given, expected, rtol=1e-4, atol=1e-4):
        raise ValueError(
            f'the data preprocessor {config["type"]!r} of the run does more to its images than to subtract mean, '
            'divide by std and order the channels, such as padding; an export cannot repeat that'
        )
    return lambda pixels: module(dict(inputs=pixels))['inputs']


def _check_on_files(preprocessing: Preprocessing, dataset: Dataset, chosen: list[int], batch: Tensor) -> None:
    """Refuse a preprocessing that, read back from an export, prepares a file differently from the run."""
    infos = [data_info(dataset, index) for index in chosen]
    paths = [info['img_path'] for info in infos if 'img_path' in info]
    written = Preprocessing.read(preprocessing.shape, json.loads(json.dumps(preprocessing.describe())))
    for path, expected in zip(paths, batch):
        scale = torch.tensor(preprocessing.std).view(-1, 1, 1)
        difference = float(((written(path) - expected) * scale).abs().mean())
        if difference > MOST_DIFFERENT:
            steps = ', '.join(step['type'] for step in preprocessing.transforms)
            raise ValueError(
                f'an export would prepare {path!r} differently from the validation data of the run: {difference:.1f} '
                f'of 255 off on average, after {steps}; transforms that draw at random, or that read more than the '
                'image, cannot be exported'
            )


def _common_size(paths: list[Path], transforms: list[dict[str, Any]]) -> tuple[int, int]:
    """Return the common height and width of images after ``transforms``; nothing else states the size."""
    sizes = sorted({apply_transforms(path, transforms).shape[:2] for path in paths})
    if len(sizes) > 1:
        raise ValueError(
            f'neither the transforms nor the crops of the run say what size its network takes, and the images of '
            f'--images have {sizes[0]} and {sizes[-1]} pixels (height, width); give images that all have the right size'
        )
    return sizes[0]


def _crop_size(run: dict[str, Any]) -> tuple[int, int] | None:
    """Return height and width of the training crops, if the run has any."""
    members = innermost_datasets((run.get('train_dataloader') or {}).get('dataset') or {})
    steps = [step for member in members for step in member.get('pipeline') or ()]
    sizes = [step['crop_size'] for step in steps if step.get('crop_size') is not None]
    pairs = {(size, size) if isinstance(size, int) else tuple(size) for size in sizes}
    return pairs.pop() if len(pairs) == 1 else None


def _build_dataset(config: dict[str, Any], missing: str) -> Any:
    """Build a data set, or say by ``missing`` what it was for and how to do without."""
    check_parts(config)
    try:
        return DATASETS.build(ConfigDict(config))
    except MisnamedClasses:
        raise
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise FileNotFoundError(missing.format(error)) from error
