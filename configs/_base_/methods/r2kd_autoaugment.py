# R2KD with AutoAugment: its ImageNet policy; settings.yml has the policy for CIFAR-100.
from mmengine.config import read_base

with read_base():
    from .r2kd import *

from r2kd_mm.augmentations import AutoAugment

model.augmentation = dict(type=AutoAugment, policy='imagenet')
