"""Write small synthetic image sets in the formats of public data sets; each module writes one format."""

from mini import cifar100, cub200, imagenet, mit67, stanford40, stanford_dogs, tiny_imagenet
from mini.base import Format, Miniature

FORMATS: dict[str, Format] = {
    'cifar100': cifar100.FORMAT,
    'cub200': cub200.FORMAT,
    'imagenet': imagenet.FORMAT,
    'mit67': mit67.FORMAT,
    'stanford40': stanford40.FORMAT,
    'stanford_dogs': stanford_dogs.FORMAT,
    'tiny_imagenet': tiny_imagenet.FORMAT,
}

__all__ = ['FORMATS', 'Format', 'Miniature']
