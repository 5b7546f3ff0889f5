"""Provide the end-to-end tests with a miniature ImageNet, and a teacher that classifies some of it correctly."""

from __future__ import annotations

from pathlib import Path

import pytest
import toolbox
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from r2kd_mm.registry import DATASETS, MODELS

FLAGSHIP = toolbox.ROOT / 'configs/r2kd/r2kd_res50_mbv1_imagenet.py'
NUM_CLASSES = 5


@pytest.fixture(scope='session')
def mini_imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes, the validation split as ImageNet's archive unpacks."""
    folder = tmp_path_factory.mktemp('data') / 'mini-imagenet'
    made = toolbox.run(
        'dataset_converters/make_mini.py',
        'imagenet',
        folder,
        '--classes',
        str(NUM_CLASSES),
        '--train',
        '8',
        '--val',
        '6',
        '--size',
        '40',
        '--layout',
        'annotations',
    )
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope='session')
def mini_options(mini_imagenet: Path) -> list[str]:
    """``--cfg-options`` that fit an ImageNet config to the miniature: 32 x 32 pixels, 2 iterations an epoch."""
    options = [
        'model.architecture.head.num_classes=5',
        'model.teacher.head.num_classes=5',
        'train_dataloader.batch_size=20',
        'train_dataloader.dataset.pipeline.1.scale=32',
        'train_cfg.max_epochs=2',
        'default_hooks.logger.interval=1',
    ]
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        options += [f'{loader}.dataset.data_root={mini_imagenet}', f'{loader}.num_workers=0']
    for loader in ('val_dataloader', 'test_dataloader'):
        options += [f'{loader}.dataset.pipeline.1.scale=36', f'{loader}.dataset.pipeline.2.crop_size=32']
    return options


@pytest.fixture(scope='session')
def mini_config(mini_options: list[str]) -> Config:
    """The flagship config, fitted to the miniature."""
    cfg = Config.fromfile(FLAGSHIP)
    keys_and_values = (option.split('=') for option in mini_options)
    cfg.merge_from_dict({key: int(value) if value.isdigit() else value for key, value in keys_and_values})
    return cfg


@pytest.fixture(scope='session')
def mini_teacher(mini_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a random ResNet-50 whose last layer has learned the miniature's validation images by heart."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        teacher = MODELS.build(mini_config.model.teacher)
        normalise = MODELS.build(mini_config.data_preprocessor)
        dataset = DATASETS.build(mini_config.val_dataloader.dataset)
    batch = normalise(default_collate([dataset[index] for index in range(len(dataset))]))
    fit_last_layer_(teacher, batch['inputs'], torch.cat([sample.gt_label for sample in batch['data_samples']]))
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(dict(state_dict=teacher.state_dict()), path)
    return path


@torch.no_grad()
def fit_last_layer_(teacher: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Least squares from the features to the labels."""
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1  # one pass settles the running statistics
    teacher.train().extract_feat(images)
    features = teacher.eval().extract_feat(images)[0].double()
    mean, scale = features.mean(0), features.std()
    weight = torch.linalg.lstsq((features - mean) / scale, nn.functional.one_hot(labels, NUM_CLASSES).double()).solution
    teacher.head.fc.weight.copy_(weight.T / scale)
    teacher.head.fc.bias.copy_(-mean @ weight / scale)
