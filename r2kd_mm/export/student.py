"""Load the trained student from the checkpoint of a run, with its preprocessing and class names."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmrazor.registry import sub_model
from mmrazor.structures import export_fix_subnet
from torch import Tensor, nn

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine.classes import check_same_classes
from r2kd_mm.engine.cli import readable_message
from r2kd_mm.engine.run_config import read_changed_config
from r2kd_mm.engine.wrapped_data import data_preprocessor_of, short_types
from r2kd_mm.export.images import look_at_images
from r2kd_mm.export.network import Logits, normalisation_layer
from r2kd_mm.export.parts import check_parts
from r2kd_mm.export.preprocessing import Preprocessing
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.build import load_weights_
from r2kd_mm.weights import forget_initial_weights_
from r2kd_mm.zoo import build_classifier, classifier_config


@dataclass(frozen=True)
class Student:
    """Trained student, loaded from the checkpoint of its run.

    Args:
        network: Network from normalised images ``(N, C, H, W)`` to logits, in eval mode.
        config: mmpretrain config of the classifier, with each ``type`` as a name; ``None`` if mmrazor pruned it.
        preprocessing: Steps from an image file to the input of ``network``.
        classes: Names of the classes, in the order of the logits.
        images: A few real normalised images, ``(N, C, H, W)`` with ``N >= 2``.
        run: Config of the run.
        checkpoint: Content of the checkpoint file.

    Example:
        >>> student = load_student('work_dirs/KD/seed_0/epoch_1.pth')
        >>> student.preprocessing.shape, student.classes[:3], student.logits().shape[1]
        ((1, 8, 8), ('0', '1', '2'), 10)
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
        """Return the logits of ``images``, ``(N, num_classes)``; probabilities where softmax is in the network."""
        return self.network(self.images)

    @property
    def is_wrapped(self) -> bool:
        """Tell whether normalisation or softmax is in the network."""
        return self.network.normalise is not None or self.network.softmax is not None

    def wrapped(self, normalise: bool, softmax: bool) -> Student:
        """Return the student with normalisation or softmax in its network, and with the images that it then takes.

        Its preprocessing then has mean 0 and standard deviation 1: nothing is left to do outside.

        Args:
            normalise: Take pixels from 0 to 255.
            softmax: Give probabilities.
        """
        prepared, run, images = self.preprocessing, self.run, self.images
        layer = None
        if normalise:
            layer = normalisation_layer(prepared.mean, prepared.std)
            mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (prepared.mean, prepared.std))
            images = images * std + mean
            zero, one = (0.0,) * len(prepared.mean), (1.0,) * len(prepared.mean)
            run = dict(run, model={**run['model'], 'data_preprocessor': _pixels(data_preprocessor_of(run))})
            prepared = replace(prepared, mean=zero, std=one)
        network = Logits(self.network.classifier, layer, nn.Softmax(dim=1) if softmax else None).eval()
        return replace(self, network=network, preprocessing=prepared, run=run, images=images)


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

    Example:
        >>> load_student('work_dirs/R2KD/seed_0/epoch_1.pth').run['model']['type']
        'r2kd_mm.distillers.R2KD'
    """
    loaded = load_checkpoint_file(checkpoint)
    run = _read_run(loaded, str(checkpoint), config)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        architecture = run['model'].get('architecture', run['model'])
        check_parts(architecture)
        model = MODELS.build(ConfigDict(architecture))
        load_weights_(model, str(checkpoint))
        if hasattr(model, 'mutator'):  # of mmrazor: without what was pruned
            _, model = export_fix_subnet(model, 'mutator', slice_weight=True)
        classifier = unwrap_student(model).eval()
        preprocessing, batch, classes = look_at_images(run, images)
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


def _pixels(data_preprocessor: dict[str, Any]) -> dict[str, Any]:
    """A data preprocessor that orders the channels as the given one, and leaves the pixels as they are."""
    return {name: value for name, value in data_preprocessor.items() if name not in ('mean', 'std')}


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


def _is_pruned(architecture: dict[str, Any]) -> bool:
    """Tell whether the classifier is part of an algorithm of mmrazor, or was pruned by one."""
    return 'architecture' in architecture or str(architecture['type']).endswith(sub_model.__name__)


def _classifier_config(architecture: dict[str, Any]) -> dict[str, Any]:
    if str(architecture['type']).endswith(build_classifier.__name__):
        architecture = classifier_config(architecture['name'], architecture.get('num_classes'))
    return short_types(architecture)
