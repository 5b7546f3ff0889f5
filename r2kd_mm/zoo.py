"""Build the networks of the CIFAR-100, Tiny-ImageNet and ImageNet pairs by name, and convert their public weights.

The names are the public zoo's: ``'cifar/resnet20'``, ``'tiny/vgg13'``, ``'imagenet/mobilenetv1'``. Its CIFAR networks
are from Tian et al., "Contrastive Representation Distillation", arXiv 1910.10699, and most later papers use them.
``cifar`` networks take 32x32 images, ``tiny`` networks 64x64, ``imagenet`` networks 224x224.

In Python, :func:`build_classifier` builds one. In a config, name it as the type::

    from r2kd_mm.zoo import build_classifier
    student = dict(type=build_classifier, name='tiny/resnet20')

Public checkpoints have other names for the weights. :func:`convert_state_dict` and :func:`revert_state_dict` rename
them in both directions, by one table of rules for each family.
"""

from __future__ import annotations

import copy
import difflib
import functools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet_CIFAR
from torch import Tensor, nn

from r2kd_mm.backbones import (
    CIFARVGG,
    CIFARMobileNetV2,
    CIFARResNet,
    CIFARShuffleNetV1,
    CIFARShuffleNetV2,
    CIFARWideResNet,
    MobileNetV1,
)
from r2kd_mm.checkpoint import load_checkpoint_file, select_weights
from r2kd_mm.registry import MODELS

OUR_PREFIXES = ('backbone.', 'head.')


@dataclass(frozen=True)
class Family:
    """Settings that networks of one kind share.

    Args:
        classifier: Public name of the linear classifier.
        rules: Substitutions of ``re.sub``, in order, from our names of the backbone's weights to the public names.
        classifier_init: Initialisation of the classifier, as in the public networks; ``None`` keeps PyTorch's.
    """

    classifier: str
    rules: tuple[tuple[str, str | Callable[[re.Match], str]], ...]
    classifier_init: dict[str, Any] | None = None


@dataclass(frozen=True)
class Network:
    """Entry of the zoo.

    Args:
        family: Its kind.
        backbone: Its config.
        channels: Channels of the last feature map, whose average over the pixels the classifier gets.
        num_classes: Classes of the public checkpoints.
    """

    family: Family
    backbone: dict[str, Any]
    channels: int
    num_classes: int


# -------------------------------------------------------------------------------------------- families and their names
NORMAL_INIT = dict(type='Normal', layer='Linear', std=0.01)
# conv1.conv.weight of a ConvModule is conv1.weight, conv1.bn.weight is bn1.weight
CONV_MODULE_RULE = (r'conv(\d)\.(conv|bn)\.', r'\2\1.')

RESNET = Family('fc', (CONV_MODULE_RULE,))
FOUR_STAGE_RESNET = Family('linear', ((r'downsample', 'shortcut'),))
WIDE_RESNET = Family(
    'fc',
    (
        (r'^conv1\.conv\.', 'conv1.'),
        (r'^layer4\.0\.', 'bn1.'),
        (r'^layer(\d)\.(\d+)\.', r'block\1.layer.\2.'),
        (r'\.norm(\d)\.', r'.bn\1.'),
        (r'\.shortcut\.', '.convShortcut.'),
    ),
)
# the public VGG and MobileNets number the layers of a block: conv, bn, relu, conv, bn, relu, ...
VGG = Family(
    'classifier',
    (
        (
            r'^layer(\d)\.(conv|norm)(\d)\.',
            lambda m: f'block{int(m[1]) - 1}.{3 * (int(m[3]) - 1) + (m[2] == "norm")}.',
        ),
    ),
    NORMAL_INIT,
)
MOBILENET_V1_FIRST_BLOCKS = (1, 2, 4, 6, 12)  # of each stage, in one list that the stem opens
MOBILENET_V1 = Family(
    'fc',
    (
        (r'^conv1\.conv\.', 'model.0.0.'),
        (r'^conv1\.bn\.', 'model.0.1.'),
        (r'^layer(\d)\.(\d)\.', lambda m: f'model.{MOBILENET_V1_FIRST_BLOCKS[int(m[1]) - 1] + int(m[2])}.'),
        (r'\.depthwise_conv\.conv\.', '.0.'),
        (r'\.depthwise_conv\.bn\.', '.1.'),
        (r'\.pointwise_conv\.conv\.', '.3.'),
        (r'\.pointwise_conv\.bn\.', '.4.'),
    ),
    NORMAL_INIT,
)
MOBILENET_V2 = Family(
    'classifier.0',
    (
        (r'^layer8\.', 'conv2.'),
        (r'^layer(\d)\.', lambda m: f'blocks.{int(m[1]) - 1}.'),
        (r'\.conv\.(\d)\.(conv|bn)\.', lambda m: f'.conv.{3 * int(m[1]) + (m[2] == "bn")}.'),
        (r'^(conv\d)\.conv\.', r'\1.0.'),
        (r'^(conv\d)\.bn\.', r'\1.1.'),
    ),
    NORMAL_INIT,
)
SHUFFLENET_V1 = Family('linear', (CONV_MODULE_RULE,))
SHUFFLENET_V2 = Family(
    'linear',
    (
        (r'^layer4\.', 'conv2.'),
        # the first block of a stage numbers its convolutions through both branches: 1, 2 and 3, 4, 5
        (r'\.0\.branch1\.(\d)\.(conv|bn)\.', lambda m: f'.0.{m[2]}{int(m[1]) + 1}.'),
        (r'\.0\.branch2\.(\d)\.(conv|bn)\.', lambda m: f'.0.{m[2]}{int(m[1]) + 3}.'),
        (r'\.branch2\.(\d)\.(conv|bn)\.', lambda m: f'.{m[2]}{int(m[1]) + 1}.'),
        CONV_MODULE_RULE,
    ),
)


# --------------------------------------------------------------------------------------------------------- the networks
def _small_image_networks(num_classes: int, num_pools: int) -> dict[str, Network]:
    """List the networks for images of 32 or 64 pixels; only the VGG backbones differ between the two."""

    def network(family: Family, channels: int, backbone: type, **settings: Any) -> Network:
        return Network(family, dict(type=backbone, **settings), channels, num_classes)

    return {
        **{f'resnet{depth}': network(RESNET, 64, CIFARResNet, depth=depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
        **{
            f'resnet{depth}x4': network(RESNET, 256, CIFARResNet, depth=depth, stem_channels=32, base_channels=64)
            for depth in (8, 32)
        },
        **{
            f'wrn_{depth}_{width}': network(WIDE_RESNET, 64 * width, CIFARWideResNet, depth=depth, widen_factor=width)
            for depth in (16, 40)
            for width in (1, 2)
        },
        **{
            f'vgg{depth}': network(VGG, 512, CIFARVGG, depth=depth, num_pools=num_pools)
            for depth in (8, 11, 13, 16, 19)
        },
        'resnet18': network(FOUR_STAGE_RESNET, 512, ResNet_CIFAR, depth=18, zero_init_residual=False),
        'resnet50': network(FOUR_STAGE_RESNET, 2048, ResNet_CIFAR, depth=50, zero_init_residual=False),
        'mobilenetv2': network(MOBILENET_V2, 1280, CIFARMobileNetV2, widen_factor=0.5),
        'shufflenetv1': network(SHUFFLENET_V1, 960, CIFARShuffleNetV1),
        'shufflenetv2': network(SHUFFLENET_V2, 1024, CIFARShuffleNetV2),
    }


def _zoo() -> dict[str, Network]:
    cifar = _small_image_networks(num_classes=100, num_pools=3)
    tiny = _small_image_networks(num_classes=200, num_pools=4)
    del tiny['shufflenetv1']  # there is none in the public zoo
    return {
        **{f'cifar/{name}': network for name, network in cifar.items()},
        **{f'tiny/{name}': network for name, network in tiny.items()},
        'imagenet/mobilenetv1': Network(MOBILENET_V1, dict(type=MobileNetV1), 1024, 1000),
    }


NETWORKS = _zoo()


def list_models() -> list[str]:
    """Return the sorted names of all networks."""
    return sorted(NETWORKS)


def classifier_config(name: str, num_classes: int | None = None) -> dict:
    """Return the config of an mmpretrain ``ImageClassifier``, with classes as types; the caller may change it.

    Args:
        name: One of :func:`list_models`.
        num_classes: Number of classes; ``None`` takes the number of the public checkpoints.

    Raises:
        ValueError: The zoo has no network of this name.
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
