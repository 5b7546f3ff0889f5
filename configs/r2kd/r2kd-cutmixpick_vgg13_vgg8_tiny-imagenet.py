# R2KD with CutMixPick, VGG-13 to VGG-8 on Tiny-ImageNet. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd import *
    from .._base_.pairs.vgg13_vgg8_tiny_imagenet import *

from r2kd_mm.augmentations import CutMixPick

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.augmentation = dict(type=CutMixPick, alpha=1.0)
