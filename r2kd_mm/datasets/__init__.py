"""Load data sets that mmpretrain lacks, or that it loads without reporting missing files."""

from typing import TYPE_CHECKING

from r2kd_mm.lazy import import_on_demand

if TYPE_CHECKING:
    from r2kd_mm.datasets.cifar100 import CIFAR100
    from r2kd_mm.datasets.contrast import NormalizeContrast
    from r2kd_mm.datasets.cub200 import CUB200
    from r2kd_mm.datasets.digits import Digits
    from r2kd_mm.datasets.glyph100 import Glyph100
    from r2kd_mm.datasets.image_folder import ImageFolder
    from r2kd_mm.datasets.loading import LoadImageFromFile
    from r2kd_mm.datasets.mit67 import MIT67
    from r2kd_mm.datasets.stanford40 import Stanford40
    from r2kd_mm.datasets.stanford_dogs import StanfordDogs
    from r2kd_mm.datasets.tiny_imagenet import TinyImageNet
    from r2kd_mm.datasets.unlabelled import WithUnlabelled

__all__ = [
    'CIFAR100',
    'CUB200',
    'Digits',
    'Glyph100',
    'ImageFolder',
    'LoadImageFromFile',
    'MIT67',
    'NormalizeContrast',
    'Stanford40',
    'StanfordDogs',
    'TinyImageNet',
    'WithUnlabelled',
]

__getattr__ = import_on_demand(__name__)
