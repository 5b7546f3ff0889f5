# R2KD with Mixup, WRN-40-2 to WRN-40-1 on CIFAR-100. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd import *
    from .._base_.pairs.wrn402_wrn401_cifar100 import *

from r2kd_mm.augmentations import Mixup

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.augmentation = dict(type=Mixup, alpha=0.2)
