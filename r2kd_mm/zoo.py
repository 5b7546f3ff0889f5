"""Build teachers and students for CIFAR-100, Tiny-ImageNet and ImageNet by name, and convert public weights.

Examples of names are ``'cifar/resnet20'``, ``'tiny/vgg13'`` and ``'imagenet/mobilenetv1'``. The CIFAR networks
are from Tian et al., "Contrastive Representation Distillation", arXiv 1910.10699, and most later papers use them.
``cifar`` networks take 32x32 images, ``tiny`` networks 64x64, ``imagenet`` networks 224x224.

In Python, :func:`build_classifier` builds a network. In a config, give this function as the type::

    from r2kd_mm.zoo import build_classifier
    student = dict(type=build_classifier, name='tiny/resnet20')

Public checkpoints use other names for the weights. :func:`convert_state_dict` and :func:`revert_state_dict` rename
the weights in both directions, by one table of rules for each family of networks.
"""

from __future__ import annotations

import copy
import difflib
import functools
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead
from torch import Tensor, nn

from r2kd_mm.checkpoint import load_checkpoint_file, select_weights
from r2kd_mm.registry import MODELS
from r2kd_mm.zoo_networks import NETWORKS, Network

OUR_PREFIXES = ('backbone.', 'head.')


def list_models() -> list[str]:
    """Return the sorted names of all networks.

    Example:
        >>> [name for name in list_models() if name.startswith('imagenet/')]
        ['imagenet/mobilenetv1']
    """
    return sorted(NETWORKS)


def classifier_config(name: str, num_classes: int | None = None) -> dict:
    """Return the config of an mmpretrain ``ImageClassifier``, with classes as types; the caller may change it.

    Args:
        name: One of :func:`list_models`.
        num_classes: Number of classes; ``None`` takes the number of the public checkpoints.

    Raises:
        ValueError: The zoo has no network of this name.

    Example:
        >>> classifier_config('cifar/resnet8', num_classes=10)['head']['num_classes']
        10
    """
    network = _find(name)
    return dict(
        type=ImageClassifier,
        backbone=copy.deepcopy(network.backbone),
        neck=dict(type=GlobalAveragePooling),
        head=dict(
            type=LinearClsHead,
            num_classes=network.num_classes if num_classes is None else num_classes,
            in_channels=network.channels,
            init_cfg=copy.deepcopy(network.family.classifier_init),
        ),
    )


@MODELS.register_module()
def build_classifier(
    name: str,
    num_classes: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    data_preprocessor: dict | nn.Module | None = None,
) -> ImageClassifier:
    """Build a network of the zoo, and load its weights if a checkpoint is given.

    Args:
        name: One of :func:`list_models`.
        num_classes: Number of classes; ``None`` takes the number of the public checkpoints.
        checkpoint: Path of the weights, with public names or ours, in any form that :func:`convert_state_dict`
            accepts. They are kept when a Runner initialises the model.
        data_preprocessor: Module that normalises the images; the Runner sets it from the config.

    Returns:
        The classifier. ``classifier(images, mode='tensor')`` gives the logits ``(N, num_classes)`` of normalised
        images ``(N, 3, H, W)``.

    Raises:
        ValueError: The zoo has no network of this name, or the checkpoint does not fit exactly.
        FileNotFoundError: The checkpoint does not exist.

    Example:
        >>> classifier = build_classifier('cifar/resnet8', num_classes=10)
        >>> classifier(torch.zeros(1, 3, 32, 32), mode='tensor').shape
        torch.Size([1, 10])
    """
    model = MODELS.build(dict(classifier_config(name, num_classes), data_preprocessor=data_preprocessor))
    if checkpoint is not None:
        layout = _layout(name, model)
        weights = select_weights(load_checkpoint_file(checkpoint))
        if any(key.startswith(OUR_PREFIXES) for key in weights):
            weights = _reverted(name, weights, layout)
        model.load_state_dict(_converted(name, weights, layout))
        model.is_init = True  # else init_weights, which the Runner calls before it trains, would draw them again
    return model


def convert_state_dict(name: str, state_dict: Mapping[str, Any], num_classes: int | None = None) -> dict[str, Tensor]:
    """Rename the weights of a public checkpoint to our names, for ``build_classifier(name).load_state_dict``.

    Args:
        name: Network of the weights, one of :func:`list_models`.
        state_dict: Weights, or a dict with the weights as ``'model'`` or ``'state_dict'``; names may begin with
            ``module.``.
        num_classes: Number of classes; ``None`` takes the number of the public checkpoints.

    Returns:
        The same tensors, all of them, none changed.

    Raises:
        ValueError: The zoo has no network of this name, or the weights do not fit exactly.

    Example:
        >>> weights = build_classifier('cifar/resnet8').state_dict()
        >>> public = revert_state_dict('cifar/resnet8', weights)
        >>> sorted(convert_state_dict('cifar/resnet8', public)) == sorted(weights)
        True
    """
    return _converted(name, select_weights(state_dict), _expected_layout(name, num_classes))


def revert_state_dict(name: str, state_dict: Mapping[str, Any], num_classes: int | None = None) -> dict[str, Tensor]:
    """Rename our weights to their public names, in the public order: the inverse of :func:`convert_state_dict`.

    Args:
        name: Network of the weights, one of :func:`list_models`.
        state_dict: Weights, or a dict with the weights as ``'model'`` or ``'state_dict'``; names may begin with
            ``module.``. From a distillation only the student is taken (``architecture.``).
        num_classes: Number of classes; ``None`` takes the number of the public checkpoints.

    Returns:
        The same tensors, all of them, none changed.

    Raises:
        ValueError: The zoo has no network of this name, or the weights do not fit exactly.

    Example:
        >>> list(revert_state_dict('cifar/resnet8', build_classifier('cifar/resnet8').state_dict()))[-2:]
        ['fc.weight', 'fc.bias']
    """
    return _reverted(name, select_weights(state_dict), _expected_layout(name, num_classes))


# ----------------------------------------------------------------------------------------------------------- internals
class _Weight(NamedTuple):
    """Tensor of a network: its public name, our name, and its shape."""

    public: str
    ours: str
    shape: tuple[int, ...]


def _find(name: str) -> Network:
    try:
        return NETWORKS[name]
    except KeyError:
        close = difflib.get_close_matches(name, NETWORKS)
        hint = f'did you mean {" or ".join(map(repr, close))}?' if close else f'known: {", ".join(list_models())}'
        raise ValueError(f'there is no network {name!r} in the zoo; {hint}') from None


def _layout(name: str, model: nn.Module) -> list[_Weight]:
    """List the weights of ``model``, which is the network ``name``."""
    family = NETWORKS[name].family
    layout = []
    for ours, tensor in model.state_dict().items():
        part, _, public = ours.partition('.')
        if part == 'head':
            public = public.replace('fc', family.classifier, 1)
        else:
            for pattern, replacement in family.rules:
                public = re.sub(pattern, replacement, public)
        layout.append(_Weight(public, ours, tuple(tensor.shape)))
    return layout


@functools.cache
def _expected_layout(name: str, num_classes: int | None) -> list[_Weight]:
    with torch.random.fork_rng(devices=[]):  # these weights are not used, so the global generator must not change
        return _layout(name, build_classifier(name, num_classes))


def _converted(name: str, weights: Mapping[str, Tensor], layout: list[_Weight]) -> dict[str, Tensor]:
    _check_weights(name, weights, {weight.public: weight.shape for weight in layout})
    return {weight.ours: weights[weight.public] for weight in layout}


def _reverted(name: str, weights: Mapping[str, Tensor], layout: list[_Weight]) -> dict[str, Tensor]:
    _check_weights(name, weights, {weight.ours: weight.shape for weight in layout})
    return {weight.public: weights[weight.ours] for weight in layout}


def _check_weights(name: str, weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights that do not fit the network ``name``, and name the first mismatch."""
    refusal = f'these are not the weights of {name!r}'
    advice = (
        'give the name of the network that was trained, and num_classes where it has other classes than the public one'
    )
    for key, shape in expected.items():
        if key not in weights:
            raise ValueError(
                f'{refusal}: expected {key!r} of shape {shape}, got none; the first one given is '
                f'{next(iter(weights))!r}; {advice}'
            )
        if tuple(weights[key].shape) != shape:
            raise ValueError(f'{refusal}: expected {key!r} of shape {shape}, got {tuple(weights[key].shape)}; {advice}')
    for key, weight in weights.items():
        if key not in expected:
            raise ValueError(f'{refusal}: it has no {key!r}, got one of shape {tuple(weight.shape)}; {advice}')
