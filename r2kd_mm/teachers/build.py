"""Build a teacher and load its weights; raise an error for mistakes that would silently give wrong logits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from mmengine.hub import get_config
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.apis import ModelHub, get_model
from torch import Tensor, nn

from r2kd_mm.checkpoint import COMPILED_PREFIX, PARALLEL_PREFIX, STUDENT_PREFIX, held_weights, select_weights
from r2kd_mm.classifiers import normalisation
from r2kd_mm.moved import old_names
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers.adapted import AdaptedInputs
from r2kd_mm.weights import WrongWeights, common_beginning, pretrained_init, weights_below

# Where RunRecordHook writes in the meta of a checkpoint.
RECORD_KEY = 'r2kd_mm'
# What training loops put before the names of a network; and all that is taken off before a checkpoint is refused.
WRAPPERS = ('model.', 'network.', 'model._orig_mod.')
TRIED = (PARALLEL_PREFIX, COMPILED_PREFIX, STUDENT_PREFIX, *WRAPPERS)

__getattr__ = old_names(__name__)


def build_teacher(teacher: dict | str | nn.Module, checkpoint: str | None, allow_untrained: bool = False) -> nn.Module:
    """Build a classifier and load its trained weights, all of them or none.

    Args:
        teacher: Config of an mmpretrain classifier (``TimmClassifier`` included), a config of an installed package by
            name (``'mmpretrain::resnet/resnet50_8xb32_in1k.py'``), a model name of ``mmpretrain.get_model``
            (``'resnet50_8xb32_in1k'``), or a network, which without a ``checkpoint`` is used as it is.
        checkpoint: Path or URL of the trained weights: a checkpoint of a Runner, ``{'model': ...}``, or a bare state
            dict. From a distiller's checkpoint the student is taken. If a file has several sets of weights, such as
            averaged ones, ``'teacher.pth#state_dict_ema'`` takes the set ``state_dict_ema``. ``None`` for a config that
            loads its weights itself: by ``pretrained``, ``checkpoint_path`` or ``checkpoint``, or by
            ``init_cfg=dict(type='Pretrained')``.
        allow_untrained: Accept a teacher without weights, initialised by its own ``init_weights``.

    Raises:
        ValueError: There are no weights, or their names or shapes do not fit this network exactly.
        FileNotFoundError: The checkpoint is missing.
    """
    model: Any
    if isinstance(teacher, nn.Module):
        model = teacher
    elif isinstance(teacher, str):
        model = get_model(get_config(teacher) if '::' in teacher else teacher, pretrained=False)
    elif isinstance(teacher, dict):
        with nullcontext() if checkpoint or allow_untrained else _whole_networks_of_huggingface(teacher):
            model = MODELS.build(teacher)
    else:
        raise TypeError(f'teacher must be a config dict, a name or a network, got {type(teacher).__name__}')
    if isinstance(model, AdaptedInputs):
        within = teacher.get('network') if isinstance(teacher, dict) else None
        _load(within if isinstance(within, dict) else model.network, model.network, checkpoint, allow_untrained)
        own: Any = getattr(model.network, '_dataset_meta', {})
        model.pick_classes(own.get('classes'))
        own = dict(classes=model.classes) if model.classes else own
        model._dataset_meta = own
    else:
        _load(teacher, model, checkpoint, allow_untrained)
    return model


def _load(teacher: dict | str | nn.Module, model: Any, checkpoint: str | None, allow_untrained: bool) -> None:
    """Load the trained weights of a classifier that was built from ``teacher``, see :func:`build_teacher`."""
    pretrained = pretrained_init(model)
    if checkpoint is not None:
        load_weights_(model, checkpoint)
    elif isinstance(teacher, nn.Module):
        pass
    elif pretrained is not None:
        load_weights_(model, pretrained['checkpoint'], pretrained.get('prefix'))
    elif not _loads_itself(teacher, model, allow_untrained):
        if not allow_untrained:
            raise ValueError(
                'the teacher has no weights: set teacher_ckpt to the path or URL of its checkpoint'
                f'{_published_weights(teacher)}, or allow_untrained_teacher=True if you really '
                'want to learn from an untrained network'
            )
        if hasattr(model, 'init_weights'):
            model.init_weights()


def load_weights_(model: Any, checkpoint: str, prefix: str | None = None, logger: str = 'current') -> None:
    """Load the weights at a path or URL into ``model``; the names and shapes must agree exactly.

    The classes and the normalisation that the checkpoint states, if any, are kept at the model for later checks.

    Args:
        model: The network.
        checkpoint: Path or URL; after a ``#``, the name of one of several sets of weights.
        prefix: How the names of the weights begin in the file; ``None`` knows those of a distillation.
        logger: Name of the logger that is told of the file; ``'silent'`` for none.

    Raises:
        ValueError: The file holds no state dict, or one of another network.
        FileNotFoundError: There is no such file.
    """
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu', logger=logger)
    try:
        weights = select_weights(loaded) if prefix is None else weights_below(held_weights(loaded), prefix)
    except WrongWeights as error:
        raise error.of(checkpoint) from None
    except ValueError as error:
        raise ValueError(f'checkpoint {checkpoint!r}: {error}') from None
    if prefix is None:
        weights = _without_wrapper(weights, model)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reasons = [' '.join(line.split()).rstrip('. ') for line in str(error).splitlines()[1:]]
        found = common_beginning(weights, model.state_dict())
        advice = (
            ''
            if found is None
            else (
                f'. The names fit with prefix={found!r}: instead of teacher_ckpt, give the teacher '
                f"init_cfg=dict(type='Pretrained', checkpoint=..., prefix={found!r})"
            )
        )
        raise ValueError(
            f'checkpoint {checkpoint!r} does not fit this {type(model).__name__}: '
            f'{"; ".join(_shorten(reason) for reason in reasons)}. Give the checkpoint of this very architecture and '
            f'number of classes, or change the config to the network that was trained. Prefixes that were tried: '
            f'{", ".join(TRIED)}{advice}'
        ) from None
    meta = loaded.get('meta') or {}
    model._dataset_meta = meta.get('dataset_meta') or {}  # where mmpretrain's get_model keeps it too
    model._normalisation = meta.get(RECORD_KEY, {}).get('normalisation')


def _without_wrapper(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights that a training loop, such as Lightning's, holds below ``model.`` or ``network.``, where they fit."""
    wanted = model.state_dict().keys()
    for prefix in WRAPPERS:
        if prefix + next(iter(wanted), '') in weights and not weights.keys() & wanted:
            return weights_below(weights, prefix)
    return weights


def check_same_inputs(teacher: nn.Module, data_preprocessor: nn.Module) -> None:
    """Refuse a teacher that was trained on images normalised differently from those that it will get.

    Where ``data_preprocessor`` states no normalisation, which the pipeline may do as well, a warning says what the
    teacher needs. What it was trained on is known from the record of :class:`~r2kd_mm.hooks.RunRecordHook` in its
    checkpoint, or else from its own config. A teacher with :class:`~r2kd_mm.teachers.AdaptedInputs` is told what it
    will get, and must be given what it was trained on.

    Raises:
        ValueError: Mean, standard deviation or channel order differ.
    """
    if isinstance(teacher, AdaptedInputs):
        _check_adapted(teacher)
        teacher.take_inputs_of(data_preprocessor)
        return
    expected = getattr(teacher, '_normalisation', None) or normalisation(getattr(teacher, 'data_preprocessor', None))
    given = normalisation(data_preprocessor)
    if expected and given and expected != given:
        raise ValueError(
            f'the teacher was trained on images normalised with {expected}, but data_preprocessor gives '
            f"it {given}; set the data_preprocessor of the run to the teacher's, or put AdaptedInputs around it"
        )
    if expected and not given:
        print_log(
            f'The teacher was trained on images normalised with {expected}, and the data_preprocessor of this run '
            'normalises none: its pipeline must do so.',
            logger='current',
            level=logging.WARNING,
        )


def _check_adapted(teacher: AdaptedInputs) -> None:
    """Refuse inputs that are not those of the training that the checkpoint records."""
    expected = getattr(teacher.network, '_normalisation', None)
    rounded = {name: [round(value, 3) for value in getattr(teacher, name)] for name in ('mean', 'std')}
    given = dict(rounded, to_rgb=bool(teacher.to_rgb))
    if expected and expected != given:
        raise ValueError(
            f'the teacher was trained on images normalised with {expected}, but AdaptedInputs gives it {given}; set '
            'mean, std and to_rgb of AdaptedInputs to those of the training'
        )


@contextmanager
def _whole_networks_of_huggingface(teacher: dict) -> Iterator[None]:
    """Refuse a HuggingFace network whose folder lacks some of its weights, while ``teacher`` is built.

    transformers only warns, and initialises them.

    Raises:
        ValueError: Weights are missing, or those in the folder have another shape.
    """
    configs = [teacher, teacher.get('network')]
    if not any(isinstance(config, dict) and 'HuggingFaceClassifier' in str(config.get('type')) for config in configs):
        yield
        return
    from transformers import AutoModelForImageClassification

    upstream = AutoModelForImageClassification.from_pretrained

    def from_pretrained(name: str, *args: Any, **kwargs: Any) -> nn.Module:
        network, found = upstream(name, *args, **{**kwargs, 'output_loading_info': True})
        missing = sorted({*found['missing_keys'], *(key for key, *_ in found['mismatched_keys'])})
        if missing:
            raise ValueError(
                f'the teacher lacks weights: {name!r} holds none for {len(missing)} tensors of its '
                f'{type(network).__name__}, the first is {missing[0]}; give a network that was trained to classify '
                'these images, or set teacher_ckpt to its checkpoint'
            )
        return network

    with patch.object(AutoModelForImageClassification, 'from_pretrained', from_pretrained):
        yield


def _loads_itself(teacher: dict | str, model: nn.Module, allow_untrained: bool) -> bool:
    """Return whether building the teacher has loaded its weights, as timm, HuggingFace and the zoo do.

    Raises:
        ValueError: They are those of a network for other classes, so that its classifier is not among them.
    """
    if isinstance(teacher, str):
        return False
    if teacher.get('pretrained') and not allow_untrained:
        network: Any = getattr(model, 'model', None)
        published = (getattr(network, 'pretrained_cfg', None) or {}).get('num_classes')  # of timm
        if network is not None and published is not None and published != network.num_classes:
            raise ValueError(
                f'the classifier of the teacher has no weights: those of pretrained=True are for {published} classes, '
                f'got num_classes={network.num_classes}; set teacher_ckpt to the checkpoint of a network that was '
                'trained on these classes'
            )
    return bool(teacher.get('pretrained') or teacher.get('checkpoint_path') or getattr(model, 'is_init', False))


def _published_weights(teacher: dict | str) -> str:
    """Say where mmpretrain publishes weights of a teacher given by its name, for an error message."""
    if isinstance(teacher, str) and '::' not in teacher and ModelHub.has(teacher):
        weights = ModelHub.get(teacher).weights
        return f' (mmpretrain publishes {weights})' if weights else ''
    return ''


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f'{text[:limit]}...'
