"""Export a student as a config and a checkpoint that mmpretrain reads without this package.

mmpretrain is imported inside the functions, so that exports in other formats can be read without mmpretrain.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r2kd_mm.export.formats import Predict
    from r2kd_mm.export.student import Student


def write_mmpretrain(student: Student, description: dict[str, Any], folder: Path) -> None:
    """Write config and checkpoint; raise if mmpretrain alone cannot build the student or preprocess its images."""
    import torch
    from mmengine.config import Config

    from r2kd_mm.export.network import ExportError
    from r2kd_mm.registry import TRANSFORMS

    if student.is_wrapped:
        raise ExportError(
            'plain mmpretrain normalises images and applies softmax outside of the network, as its config says; leave '
            'out --with-normalization and --with-softmax, or take another format'
        )
    if student.config is None:
        raise ExportError(
            'this student was pruned by mmrazor, or can be, and plain mmpretrain cannot build it; take another format'
        )
    classifier = student.network.classifier
    ours = sorted({type(part).__name__ for part in classifier.modules() if type(part).__module__.startswith('r2kd_mm')})
    if ours:
        raise ExportError(
            f'plain mmpretrain cannot build this student: {", ".join(ours)} is of r2kd_mm; take the format torch, one '
            'Python file next to the weights'
        )
    preprocessing = student.preprocessing
    kinds = {step['type']: TRANSFORMS.get(step['type']) for step in preprocessing.transforms}
    ours = sorted(kind for kind, cls in kinds.items() if cls is None or cls.__module__.startswith('r2kd_mm'))
    if ours:
        raise ExportError(
            f'plain mmpretrain cannot prepare images for this student: it does not know {", ".join(ours)}; take '
            'another format, and tools/predict.py, or prepare the images as export.json says'
        )
    loader = dict(type='LoadImageFromFile')
    if preprocessing.channel_order == 'GRAY':
        loader['color_type'] = 'grayscale'
    pipeline = [loader, *preprocessing.transforms, dict(type='PackInputs')]
    config = dict(
        default_scope='mmpretrain',
        model=student.config,
        data_preprocessor=dict(
            type='ClsDataPreprocessor',
            mean=list(preprocessing.mean),
            std=list(preprocessing.std),
            to_rgb=preprocessing.channel_order == 'RGB',
        ),
        test_dataloader=dict(
            batch_size=32,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='CustomDataset',
                data_root='data',
                classes=list(student.classes),
                with_label=False,
                pipeline=pipeline,
            ),
        ),
    )
    Config(config).dump(folder / 'config.py')
    meta = dict(dataset_meta=dict(classes=student.classes))  # where mmpretrain looks for them
    torch.save(dict(meta=meta, state_dict=classifier.state_dict()), folder / 'weights.pth')


def load_mmpretrain(folder: Path) -> Predict:
    """Read them back."""
    from mmpretrain.apis import get_model

    from r2kd_mm.checkpoint import load_checkpoint_file

    model = get_model(str(folder / 'config.py'), pretrained=False, device='cpu').eval()
    # not by get_model, which prints, and warns where weights are missing
    model.load_state_dict(load_checkpoint_file(folder / 'weights.pth')['state_dict'])
    return lambda images: model(images, mode='tensor')
