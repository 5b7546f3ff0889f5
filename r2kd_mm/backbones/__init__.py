"""Define backbones that mmpretrain lacks, such as ResNets for CIFAR, with the interface of mmpretrain's backbones."""

from r2kd_mm.backbones.cifar_mobilenet_v2 import CIFARMobileNetV2
from r2kd_mm.backbones.cifar_resnet import CIFARResNet
from r2kd_mm.backbones.cifar_shufflenet_v1 import CIFARShuffleNetV1
from r2kd_mm.backbones.cifar_shufflenet_v2 import CIFARShuffleNetV2
from r2kd_mm.backbones.cifar_vgg import CIFARVGG
from r2kd_mm.backbones.cifar_wide_resnet import CIFARWideResNet
from r2kd_mm.backbones.mobilenet_v1 import MobileNetV1

__all__ = [
    'CIFARMobileNetV2',
    'CIFARResNet',
    'CIFARShuffleNetV1',
    'CIFARShuffleNetV2',
    'CIFARVGG',
    'CIFARWideResNet',
    'MobileNetV1',
]
