# CMKD, a reconstruction, on the clean images only, WRN-40-2 to WRN-40-1 on CIFAR-100. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.cmkd import *
    from .._base_.pairs.wrn402_wrn401_cifar100 import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt, augmentation=None)
