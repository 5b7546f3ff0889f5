# R2KD with Cutout, VGG-13 to half-width MobileNetV2 on CIFAR-100. lr 0.01 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd import *
    from .._base_.pairs.vgg13_mv2_cifar100 import *

from r2kd_mm.augmentations import Cutout

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.augmentation = dict(type=Cutout, length=8)
