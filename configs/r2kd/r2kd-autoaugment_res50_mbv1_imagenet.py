# R2KD with AutoAugment, ResNet-50 to MobileNetV1 on ImageNet.
# lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd import *
    from .._base_.pairs.res50_mbv1_imagenet import *

from r2kd_mm.augmentations import AutoAugment

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.augmentation = dict(type=AutoAugment, policy='imagenet')
