"""Write one config file for each training run of ``r2kd-mm distill``, built from the base configs of r2kd_mm."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from pathlib import Path
from typing import Any

from mmengine.config import Config

import r2kd_mm
from r2kd_mm.engine.wrapped_data import short_types
from r2kd_mm.networks import Inputs, NamedNetwork
from r2kd_mm.photos.options import LOGGERS

INSTALLED = Path(r2kd_mm.__file__).parent / '.mim' / 'configs' / '_base_'
MARGIN = 256 / 224  # the shorter side of a validation image over that of its crop, as on ImageNet
SMALLEST_CROP = 0.35  # of the picture, in training
SHARE_OF_PRETRAINED = 0.1  # of the learning rate
WIDTH = 120  # characters in a line of a config file
ALL_CLASSES = 5  # an accuracy among the 5 most likely needs as many

# The fields of a config in the order of the file, each with its comment; what is not here is no part of it.
SECTIONS = {
    'default_scope': 'where types are looked up',
    'data_preprocessor': 'mean and standard deviation of the pixels, in units of 0 to 255',
    'train_dataloader': 'the photos to train on, and what is drawn for each',
    'val_dataloader': 'the photos that the accuracy is measured on',
    'val_evaluator': None,
    'test_dataloader': 'tools/test.py: the same photos',
    'test_evaluator': None,
    'model': None,
    'optim_wrapper': 'the recipe: configs/_base_/schedules/own_data.py',
    'param_scheduler': None,
    'train_cfg': None,
    'val_cfg': None,
    'test_cfg': None,
    'auto_scale_lr': None,
    'default_hooks': 'logs, checkpoints, checks before the first step',
    'custom_hooks': None,
    'log_processor': None,
    'env_cfg': 'the machine',
    'visualizer': None,
    'log_level': None,
    'randomness': None,
    'load_from': None,
    'resume': None,
}


@dataclass(frozen=True)
class Data:
    """Folder of photos, their classes and splits, for :class:`~r2kd_mm.datasets.ImageFolder`.

    Args:
        root: Folder that the configs name as ``data_root``.
        classes: Names of the classes, in the order of the labels.
        train: Name of the split to train on.
        val: Name of the split to validate on.
        workers: Number of processes that load photos.
        unlabelled: Folder of photos without labels, and the file that lists them; ``None`` without such photos.
        unlabelled_share: Share of photos without labels in each batch of the distillation.
    """

    root: str
    classes: tuple[str, ...]
    train: str = 'train'
    val: str = 'val'
    workers: int = 2
    unlabelled: tuple[str, str] | None = None
    unlabelled_share: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """The part of a training that a user may change.

    Args:
        epochs: Length of the run.
        batch_size: Images a step, over all processes.
        lr: Learning rate; ``None`` takes that of the recipe for this batch size.
        pretrained: Whether the network starts from weights, for which the recipe has a lower learning rate.
        flip: Whether pictures are mirrored in training.
        amp: Mixed precision.
        loggers: Names in :data:`LOGGERS`.
        options: Further fields, as ``--cfg-options``.
        processes: Number of processes; the batch size in the config is that of one.
    """

    epochs: int
    batch_size: int = 32
    lr: float | None = None
    pretrained: bool = False
    flip: bool = True
    amp: bool = False
    loggers: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1


def classifier_run(network: NamedNetwork, inputs: Inputs, data: Data, recipe: Recipe) -> dict[str, Any]:
    """Config of a run that trains a network on the labels alone.

    Args:
        network: Is trained.
        inputs: The images that it gets.
        data: The photos.
        recipe: How it is trained.
    """
    return _run('default_runtime', copy.deepcopy(network.config), inputs, data, recipe)


def distillation_run(
    student: NamedNetwork,
    inputs: Inputs,
    teacher: Mapping[str, Any],
    teacher_ckpt: str | None,
    method: str,
    data: Data,
    recipe: Recipe,
    replay: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """Config of a run in which a student learns from a teacher.

    Args:
        student: Is trained.
        inputs: The images that it gets.
        teacher: Config of the teacher.
        teacher_ckpt: Its weights; ``None`` where the config holds them.
        method: One of :data:`METHODS`.
        data: The photos.
        recipe: How the student is trained.
        replay: Folder of the stored logits, and the number of epochs after which images repeat; ``None`` asks the
            teacher in every epoch.
    """
    model = installed(f'methods/{method}')['model']
    model.update(architecture=copy.deepcopy(student.config), teacher=dict(teacher), teacher_ckpt=teacher_ckpt)
    cfg = _run('distillation_runtime', model, inputs, data, recipe)
    if data.unlabelled is not None:
        _add_unlabelled_(cfg['train_dataloader'], data)
    if replay is not None:
        _replay_(cfg, *replay)
    return cfg


def adapted(network: Mapping[str, Any], inputs: Inputs, **fields: Any) -> dict[str, Any]:
    """Config of a teacher that gets the view of the student in its own size and normalisation.

    Args:
        network: Config of the classifier.
        inputs: What it wants to see.
        fields: Others of :class:`~r2kd_mm.teachers.AdaptedInputs`.
    """
    return dict(
        type='AdaptedInputs',
        network=dict(network),
        size=inputs.size,
        interpolation=inputs.interpolation,
        **inputs.normalisation,
        **fields,
    )


def installed(name: str) -> dict[str, Any]:
    """The fields of an installed base config, such as ``'methods/kd'``, with types given by name."""
    return short_types(Config.fromfile(INSTALLED / f'{name}.py').to_dict())


def _run(runtime: str, model: dict[str, Any], inputs: Inputs, data: Data, recipe: Recipe) -> dict[str, Any]:
    cfg = {**installed(runtime), **installed('schedules/own_data'), **_photos(inputs, data, recipe), 'model': model}
    cfg['train_cfg']['max_epochs'] = recipe.epochs
    optim = cfg['optim_wrapper']
    scale = min(1.0, recipe.batch_size / cfg['auto_scale_lr']['base_batch_size'])
    scale *= SHARE_OF_PRETRAINED if recipe.pretrained else 1.0
    optim['optimizer']['lr'] = optim['optimizer']['lr'] * scale if recipe.lr is None else recipe.lr
    if recipe.amp:
        optim['type'] = 'AutocastOptimWrapper'
    for name in recipe.loggers:
        cfg['visualizer']['vis_backends'].append(dict(type=f'{LOGGERS[name]}VisBackend'))
    changed = Config({name: cfg[name] for name in SECTIONS if name in cfg})
    changed.merge_from_dict(dict(recipe.options))
    return changed.to_dict()


def _photos(inputs: Inputs, data: Data, recipe: Recipe) -> dict[str, Any]:
    """The data of ImageNet's config, with other folders and sizes."""
    cfg = installed('datasets/imagenet')
    resize = dict(interpolation=inputs.interpolation, backend='pillow')
    crop = dict(type='RandomResizedCrop', scale=inputs.size, crop_ratio_range=(SMALLEST_CROP, 1.0), **resize)
    flip = [dict(type='RandomFlip', prob=0.5, direction='horizontal')] if recipe.flip else []
    load, pack = dict(type='LoadImageFromFile'), dict(type='PackInputs')
    pipelines = dict(
        train=[load, crop, *flip, pack],
        val=[
            load,
            dict(type='ResizeEdge', scale=round(MARGIN * inputs.size), edge='short', **resize),
            dict(type='CenterCrop', crop_size=inputs.size),
            pack,
        ],
    )
    for part, split in (('train', data.train), ('val', data.val)):
        loader = cfg[f'{part}_dataloader']
        size = recipe.batch_size // recipe.processes
        loader.update(batch_size=size, num_workers=data.workers, persistent_workers=data.workers > 0)
        loader['dataset'].update(data_root=data.root, split=split, pipeline=pipelines[part])
    cfg['data_preprocessor'] = dict(type='ClsDataPreprocessor', **inputs.normalisation)
    cfg['val_evaluator'] = dict(type='Accuracy', topk=(1, 5) if len(data.classes) > ALL_CLASSES else (1,))
    return {**cfg, 'test_dataloader': cfg['val_dataloader'], 'test_evaluator': cfg['val_evaluator']}


def _add_unlabelled_(loader: dict[str, Any], data: Data) -> None:
    assert data.unlabelled is not None
    root, listed = data.unlabelled
    free = dict(
        type='CustomDataset',
        data_prefix=root,
        ann_file=listed,
        with_label=False,
        pipeline=loader['dataset']['pipeline'],
    )
    loader['dataset'] = dict(type='WithUnlabelled', dataset=loader['dataset'], unlabelled=[free])
    loader['sampler'] = dict(
        type='UnlabelledShareSampler', batch_size=loader['batch_size'], share=data.unlabelled_share
    )


def _replay_(cfg: dict[str, Any], folder: str, cycle: int) -> None:
    """Let images and their crops repeat after ``cycle`` epochs, and keep the logits of the teachers for each."""
    cfg['train_cfg']['cycle'] = cycle
    cfg['model']['replay'] = dict(folder=folder)
    if cfg['model'].get('augmentation'):  # whose partners must not depend on the batch
        cfg['model']['augmentation']['per_image'] = True
        cfg['train_dataloader']['sampler'] = dict(type='PairedSampler')
    cfg['custom_hooks'].insert(-1, dict(type='ReplayHook'))


def write_config(cfg: Mapping[str, Any], path: Path, title: Sequence[str]) -> None:
    """Write a config as a file, in a fixed order and with comments.

    Args:
        cfg: All fields of the run.
        path: The file; one with the same text stays as it is.
        title: Lines that stand at its top.
    """
    parts = ['\n'.join(f'# {line}' for text in title for line in textwrap.wrap(text, 118))]
    for name, comment in SECTIONS.items():
        if name in cfg:
            text = f'{name} = {_laid_out(cfg[name], len(name) + 3)}'
            parts.append(f'# {comment}\n{text}' if comment else text)
    text = '\n\n'.join(parts) + '\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def _laid_out(value: Any, used: int, indent: int = 0) -> str:
    """A value as Python text in lines of at most :data:`WIDTH`, ``type`` first; ``used`` of the first are taken."""
    if isinstance(value, dict):
        kind = {'type': value['type']} if 'type' in value else {}
        pairs = {**kind, **value}
        named = all(isinstance(key, str) and key.isidentifier() and not iskeyword(key) for key in pairs)
        opening, closing = ('dict(', ')') if named else ('{', '}')
        heads = [f'{key}=' if named else f'{key!r}: ' for key in pairs]
        items: list[Any] = list(pairs.values())
    elif isinstance(value, (list, tuple)):
        opening, closing = ('[', ']') if isinstance(value, list) else ('(', ',)' if len(value) == 1 else ')')
        heads, items = [''] * len(value), list(value)
    else:
        return repr(value)
    parts = [head + _laid_out(item, -WIDTH * WIDTH) for head, item in zip(heads, items)]
    line = f'{opening}{", ".join(parts)}{closing}'
    if indent + used + len(line) <= WIDTH:
        return line
    inner = indent + 4
    rows = [head + _laid_out(item, len(head) + 1, inner) for head, item in zip(heads, items)]
    return f'{opening}\n' + ''.join(f'{" " * inner}{row},\n' for row in rows) + ' ' * indent + closing.strip(',')
