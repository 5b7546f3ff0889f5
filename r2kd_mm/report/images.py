"""Choose the validation images on which networks are measured, and corrupt these images if asked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from torch import Tensor

from r2kd_mm.corruptions import Corrupt
from r2kd_mm.datasets import NormalizeContrast
from r2kd_mm.engine.wrapped_data import PACKER, data_preprocessor_of, innermost_datasets, short_name
from r2kd_mm.registry import DATASETS, MODELS


def looked_at(config: Config, num_images: int) -> Config:
    """Return a copy of a config with at most ``num_images`` validation images, or all if a wrapper holds the data set.

    The images are drawn at random with a fixed seed. Evenly spaced images could miss classes if labels are periodic.
    """
    config = copy.deepcopy(config)
    dataset = config.val_dataloader.dataset
    if innermost_datasets(dataset)[0] is not dataset:
        return config
    images = _positions(dataset)
    if len(images) > num_images:
        chosen = np.random.default_rng(0).choice(len(images), num_images, replace=False)
        dataset.indices = [images[place] for place in sorted(chosen.tolist())]
    return config


def _positions(dataset: ConfigDict) -> Sequence[int]:
    """Return the positions of the images of a data set in the whole set, before its ``indices``."""
    chosen = dataset.get('indices')
    if isinstance(chosen, Sequence):
        return chosen
    whole = {key: copy.deepcopy(value) for key, value in dataset.items() if key != 'indices'}
    everything = range(len(DATASETS.build(whole)))
    if chosen is None:
        return everything
    return everything[:chosen] if chosen >= 0 else everything[chosen:]


def corrupted_config(config: Config, name: str, severity: int) -> Config:
    """Corrupt the validation images of a config: after resizing, before their contrast is normalised."""
    config = copy.deepcopy(config)
    for dataset in innermost_datasets(config.val_dataloader.dataset):
        pipeline = dataset.pipeline
        kinds = [short_name(step['type']) for step in pipeline]
        places = [place for place, kind in enumerate(kinds) if kind in (NormalizeContrast.__name__, PACKER)]
        step = dict(type=Corrupt, name=name, severity=severity)
        dataset.pipeline = [*pipeline[: (place := min(places, default=len(pipeline)))], step, *pipeline[place:]]
    return config


def first_images(config: Config, count: int) -> tuple[Tensor, Tensor]:
    """Return at most ``count`` normalised validation images, and their labels."""
    config = looked_at(config, count)
    preprocessor = MODELS.build(data_preprocessor_of(config))
    batches = [preprocessor(batch, training=False) for batch in Runner.build_dataloader(config.val_dataloader)]
    labels = [sample.gt_label for data in batches for sample in data['data_samples']]
    return torch.cat([data['inputs'] for data in batches]), torch.cat(labels)


def chosen_images(config: Config, places: Sequence[int]) -> tuple[Any, list[str]]:
    """Return a batch of validation images for the data preprocessor, and their files, empty where there are none.

    Args:
        config: Has a ``val_dataloader``.
        places: Positions of the images in the data set.
    """
    loader = Runner.build_dataloader(
        {**copy.deepcopy(config.val_dataloader), 'num_workers': 0, 'persistent_workers': False}
    )
    samples = [loader.dataset[place] for place in places]
    files = [str(sample['data_samples'].get('img_path') or '') for sample in samples]
    return loader.collate_fn(samples), files
