# R2KD with AutoAugment, ResNet-56 to ResNet-20 on CIFAR-100. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd import *
    from .._base_.pairs.res56_res20_cifar100 import *

from r2kd_mm.augmentations import AutoAugment

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.augmentation = dict(type=AutoAugment, policy='cifar10')
