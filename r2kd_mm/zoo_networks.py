"""List the networks of r2kd_mm.zoo: backbone, number of classes, and weight names in public checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmpretrain.models import ResNet_CIFAR

from r2kd_mm.backbones import (
    CIFARVGG,
    CIFARMobileNetV2,
    CIFARResNet,
    CIFARShuffleNetV1,
    CIFARShuffleNetV2,
    CIFARWideResNet,
    MobileNetV1,
)


@dataclass(frozen=True)
class Family:
    """Settings shared by the networks of one architecture family.

    Args:
        classifier: Name of the linear classifier in the public checkpoints.
        rules: Substitutions of ``re.sub``, in order, from our names of the backbone's weights to the public names.
        classifier_init: Initialisation of the classifier in the public networks; ``None`` keeps PyTorch's.
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
