"""Tiny classifiers and batches that the tests share."""

from __future__ import annotations

import itertools

import torch
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

NUM_CLASSES = 5
IMAGE_SIZE = 8
_counter = itertools.count()  # MMEngine keeps one message hub and visualizer for each experiment name


def classifier(num_classes: int = NUM_CLASSES, width: int = 4, dropout: float = 0.0, **classifier_fields) -> dict:
    """Config of a residual network for 8x8 images; ``dropout`` also sets the rate of stochastic depth."""
    channels = 8 * width
    return dict(
        type='ImageClassifier',
        backbone=dict(
            type='ResNet_CIFAR',
            depth=18,
            base_channels=width,
            stem_channels=width,
            drop_path_rate=dropout,
            zero_init_residual=False,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='StackedLinearClsHead',
            num_classes=num_classes,
            in_channels=channels,
            mid_channels=[channels],
            dropout_rate=dropout,
        ),
        **classifier_fields,
    )


def batch(size: int = 6, num_classes: int = NUM_CLASSES, seed: int = 0) -> tuple[torch.Tensor, list[DataSample]]:
    """Normalised images and their labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    labels = torch.randint(num_classes, (size,), generator=generator)
    return images, [DataSample().set_gt_label(label) for label in labels]


class Images(torch.utils.data.Dataset):
    """Learnable images: each class is brighter in its own row."""

    def __init__(self, size: int = 40, num_classes: int = NUM_CLASSES, seed: int = 0) -> None:
        self.inputs, self.samples = batch(size, num_classes, seed)
        for image, sample in zip(self.inputs, self.samples):
            image[:, int(sample.gt_label)] += 3
        self.metainfo = dict(classes=tuple(f'row {index}' for index in range(num_classes)))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.inputs[index], data_samples=self.samples[index])


def runner(
    model: dict | torch.nn.Module,
    work_dir,
    *,
    epochs: int = 1,
    batch_size: int = 10,
    hooks: list | tuple = (),
    train_data: Images | None = None,
    val_data: Images | None = None,
    **fields,
) -> Runner:
    """A Runner on :class:`Images` with everything else at its default, ready to train."""

    def loader(dataset, shuffle):
        return dict(
            dataset=dataset, batch_size=batch_size, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=shuffle)
        )

    fields = dict(
        dict(
            train_dataloader=loader(train_data or Images(), True),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            val_dataloader=loader(val_data or Images(seed=1), False),
            val_cfg=dict(),
            val_evaluator=dict(type='Accuracy'),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
            default_scope='r2kd_mm',
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            randomness=dict(seed=0),
            experiment_name=f'toy_{next(_counter)}',
        ),
        **fields,
    )
    return Runner(model=model, work_dir=str(work_dir), custom_hooks=list(hooks), **fields)
