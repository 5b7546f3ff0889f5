"""Write the checkpoints and the images that the export tests use."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from toolbox import ROOT
from torch import nn

from r2kd_mm.export import FORMATS
from r2kd_mm.registry import DATASETS, MODELS

DISTILLED_DIGITS = 'r2kd/r2kd_res14_res6_digits.py'
ACCURACIES = (80.0, 91.0, 90.5)
RECORD = dict(
    versions=dict(python='3.11.7', torch='2.13.0'),
    commit='0123abc',
    seed=3,
    train_data=dict(images=300),
    val_data=dict(images=1497),
    teacher_accuracies=dict(teacher=92.1),
)


def write_checkpoint(path: Path, config: str = DISTILLED_DIGITS, **changes: Any) -> Path:
    """Write the checkpoint of a run of ``configs/<config>`` with a random student; ``changes`` change the config."""
    cfg = Config.fromfile(ROOT / 'configs' / config)
    cfg.merge_from_dict(changes)
    distilled = 'architecture' in cfg.model
    weights = random_classifier(cfg.model.architecture if distilled else cfg.model).state_dict()
    history = HistoryBuffer(log_history=ACCURACIES, count_history=[1] * len(ACCURACIES))
    meta = dict(cfg=cfg.pretty_text, epoch=200, experiment_name='a_run', r2kd_mm=RECORD)
    hub = dict(log_scalars={'val/accuracy/top1': history}, runtime_info=dict(last_validated_epoch=190))
    state = {f'architecture.{name}': value for name, value in weights.items()} if distilled else weights
    torch.save(dict(meta=meta, message_hub=hub, state_dict=state), path)
    return path


def random_classifier(config: dict) -> nn.Module:
    """A classifier in eval mode: its batch normalisation has statistics of its own, and its logits differ."""
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        model = MODELS.build(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    return model.eval()


def write_digits(folder: Path, count: int = 3) -> list[Path]:
    """The first test images of the digits, as grey PNG files."""
    dataset = DATASETS.build(dict(type='Digits', split='test'))
    folder.mkdir()
    paths = [folder / f'{index}.png' for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), dataset.get_data_info(index)['img'])
    return paths


def write_photos(folder: Path, count: int = 3, height: int = 48, width: int = 64) -> list[Path]:
    """Coloured noise that is smooth, as PNG files."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    paths = [folder / f'{index}.png' for index in range(count)]
    for path in paths:
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return paths


def needs(name: str) -> pytest.MarkDecorator:
    packages = FORMATS[name].packages + FORMATS[name].write_packages
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f'{name} needs {", ".join(missing)}: requirements/export.txt')


FORMAT = pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=[needs(name), *[pytest.mark.slow] * (name != 'torch')]) for name in FORMATS],
)
