"""Augment a whole batch of images at once: AutoAugment, Mixup, CutMix, Cutout and CutMixPick."""

from r2kd_mm.augmentations.auto_augment import AutoAugment
from r2kd_mm.augmentations.base import BatchAugmentation, ViewContext
from r2kd_mm.augmentations.draws import BatchDraws, Draws, SampleDraws
from r2kd_mm.augmentations.mixing import CutMix, CutMixPick, Cutout, Mixup

__all__ = [
    'AutoAugment',
    'BatchAugmentation',
    'BatchDraws',
    'CutMix',
    'CutMixPick',
    'Cutout',
    'Draws',
    'Mixup',
    'SampleDraws',
    'ViewContext',
]
