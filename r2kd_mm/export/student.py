"""Load the student from the checkpoint of a run, with its preprocessing and classes."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import ConfigDict
from mmengine.dataset import ClassBalancedDataset, RepeatDataset, default_collate
from mmengine.registry import DefaultScope
from mmengine.utils import get_object_from_string  # what Registry.get falls back to
from mmpretrain.datasets import KFoldDataset
from mmrazor.registry import sub_model
from mmrazor.structures import export_fix_subnet
from torch import Tensor, nn
from torch.utils.data import Dataset

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.compat import MisnamedClasses
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine.classes import check_same_classes, classes_of
from r2kd_mm.engine.cli import readable_message
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.engine.wrapped_data import (
    LOADER,
    PACKER,
    data_info,
    data_preprocessor_of,
    flips_channels,
    gives_bgr,
    innermost_datasets,
    shared_pipeline,
    short_types,
)
from r2kd_mm.export.network import Logits
from r2kd_mm.export.preprocessing import Preprocessing, apply_transforms, list_images
from r2kd_mm.registry import DATASETS, MODELS
from r2kd_mm.teachers.build import load_weights_
from r2kd_mm.weights import forget_initial_weights_
from r2kd_mm.zoo import build_classifier, classifier_config

NUM_IMAGES = 8
DATALOADERS = (
    'val_dataloader',
    'test_dataloader',
    'train_dataloader',
)  # whose images an export takes, the first there is
MOST_DIFFERENT = 2.0  # of 0 to 255, mean over the pixels of an image: decoders of JPEG differ by less
# Parts that a config may build, besides networks, torch's data sets and transforms.
PARTS = (build_classifier, sub_model, ClassBalancedDataset, KFoldDataset, RepeatDataset)
PARTS_BY_NAME = ('torchvision.models.get_model',)  # not imported for its name
FIXING = ('Resize', 'CenterCrop')  # after these, images of every size have one


@dataclass(frozen=True)
class Student:
    """Trained classifier outside of its run.

    Args:
        network: Network from normalised images ``(N, C, H, W)`` to logits, in eval mode.
        config: Config of the classifier for mmpretrain, with types as names; ``None`` if mmrazor pruned it.
        preprocessing: Steps from an image file to the input of ``network``.
        classes: Names of the classes, in the order of the logits.
        images: A few real normalised images, ``(N, C, H, W)`` with ``N >= 2``.
        run: Config of the run.
        checkpoint: Content of the checkpoint file.
    """

    network: Logits
    config: dict[str, Any] | None
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    images: Tensor
    run: dict[str, Any]
    checkpoint: dict[str, Any]

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Return the logits of ``images``, ``(N, num_classes)``."""
        return self.network(self.images)


def load_student(
    checkpoint: str | os.PathLike, config: str | os.PathLike | None = None, images: str | os.PathLike | None = None
) -> Student:
    """Build the student of a run, or the classifier of a run without teacher, and load its weights.

    No code in the checkpoint is run: its config is parsed, and may only build networks, data sets and transforms.

    Args:
        checkpoint: Checkpoint of a run.
        config: Config file of the run; ``None`` takes the config in the checkpoint.
        images: Folder of images; ``None`` takes the validation data of the run.

    Raises:
        FileNotFoundError: The checkpoint, the folder or the validation data do not exist.
        ValueError: The file is not a checkpoint, has no config, or its weights do not fit the network in its config.
            Or the network cannot take the images.
    """
    loaded = load_checkpoint_file(checkpoint)
    run = _read_run(loaded, str(checkpoint), config)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        architecture = run['model'].get('architecture', run['model'])
        _check_types(architecture)
        model = MODELS.build(ConfigDict(architecture))
        load_weights_(model, str(checkpoint))
        if hasattr(model, 'mutator'):  # of mmrazor: without what was pruned
            _, model = export_fix_subnet(model, 'mutator', slice_weight=True)
        classifier = unwrap_student(model).eval()
        preprocessing, batch, classes = _look_at_images(run, images)
    shape = tuple(batch.shape[1:])
    try:
        with torch.no_grad():
            num_classes = classifier_logits(classifier, batch).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f'the network cannot take images of shape {shape} (channels, height, width): '
            f'{readable_message(error).splitlines()[0]}; give images like those that it was trained on by --images'
        ) from error
    known = (loaded.get('meta') or {}).get('dataset_meta', {}).get('classes')
    if config is None:
        check_same_classes(
            known,
            classes,
            owners=f'checkpoint {str(checkpoint)!r} and the validation data',
            remedy='if those of the data are right, give their config by --config',
        )
        classes = known or classes
    classes = classes or known or ()
    if len(classes) != num_classes:  # a head for more classes than the data have, or names that nobody gave
        classes = tuple(str(index) for index in range(num_classes))
    return Student(
        network=Logits(classifier).eval(),
        config=None if _is_pruned(architecture) else _classifier_config(architecture),
        preprocessing=preprocessing,
        classes=tuple(map(str, classes)),
        images=batch,
        run=run,
        checkpoint=loaded,
    )


# ---------------------------------------------------------------------------------------------------- the config
def _read_run(loaded: Mapping[str, Any], name: str, config: str | os.PathLike | None) -> dict[str, Any]:
    text = read_changed_config(str(config), {}).pretty_text if config else (loaded.get('meta') or {}).get('cfg')
    if not isinstance(text, str):
        raise ValueError(
            f'checkpoint {name!r} is not one of a run: it has no config, so nobody knows which network its weights '
            "belong to; give one that tools/train.py wrote, or the run's config by --config"
        )
    try:
        run = {
            statement.targets[0].id: _literal(statement.value)
            for statement in ast.parse(text).body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }
    except SyntaxError as error:
        raise ValueError(f'the config in checkpoint {name!r} cannot be read ({error}); give it by --config') from error
    if not isinstance(run.get('model'), dict):
        raise ValueError(f'the config of checkpoint {name!r} has no model; give the config of its run by --config')
    forget_initial_weights_(run['model'])
    return run


def _literal(node: ast.expr) -> Any:
    """Evaluate an expression of a config: dicts, lists, tuples and constants; return the text of others."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        # keys that are no identifiers stand in a dict of their own
        unnamed = [item for argument in node.args for item in _literal(argument).items()]
        return dict(unnamed, **{str(keyword.arg): _literal(keyword.value) for keyword in node.keywords})
    if isinstance(node, ast.Dict):  # a dump has no **
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values) if key is not None}
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _check_types(value: Any) -> None:
    """Refuse a type that is a path to something other than a part of a network, a data set or a transform."""
    if isinstance(value, dict):
        kind = value.get('type')
        if isinstance(kind, str) and '.' in kind:
            found = get_object_from_string(kind)
            is_part = isinstance(found, type) and issubclass(found, (nn.Module, Dataset, BaseTransform))
            if not (found is None or is_part or found in PARTS or kind in PARTS_BY_NAME):  # None: a name in a registry
                raise ValueError(
                    f'the config in the checkpoint is refused: it builds {kind!r}, which is no network, data set or '
                    'transform; if you trust it, give its config as a file by --config'
                )
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        _check_types(item)


def _is_pruned(architecture: dict[str, Any]) -> bool:
    """Tell whether the classifier is part of an algorithm of mmrazor, or was pruned by one."""
    return 'architecture' in architecture or str(architecture['type']).endswith(sub_model.__name__)


def _classifier_config(architecture: dict[str, Any]) -> dict[str, Any]:
    if str(architecture['type']).endswith(build_classifier.__name__):
        architecture = classifier_config(architecture['name'], architecture.get('num_classes'))
    return short_types(architecture)


# ---------------------------------------------------------------------------------------------------- the images
def _look_at_images(
    run: dict[str, Any], folder: str | os.PathLike | None
) -> tuple[Preprocessing, Tensor, tuple[str, ...]]:
    """Return the preprocessing, a batch of inputs, and the class names if the data have them."""
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
        dataset = _build_dataset(loader['dataset'])
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


def _data_preprocessor(normalise: dict[str, Any], preprocessing: Preprocessing) -> Callable[[Tensor], Tensor]:
    """Build the run's data preprocessor, and check that ``preprocessing`` normalises in the same way."""
    config = {'type': 'ClsDataPreprocessor', **normalise}
    config.pop('batch_augments', None)  # of training
    _check_types(config)
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


def _build_dataset(config: dict[str, Any]) -> Any:
    _check_types(config)
    try:
        return DATASETS.build(ConfigDict(config))
    except MisnamedClasses:
        raise
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise FileNotFoundError(
            f'the export is checked on real images, and the validation data of the run are not here ({error}); give a '
            'folder of images by --images'
        ) from error
