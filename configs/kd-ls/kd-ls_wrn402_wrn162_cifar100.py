# KD on standardised logits, WRN-40-2 to WRN-16-2 on CIFAR-100. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.kd_ls import *
    from .._base_.pairs.wrn402_wrn162_cifar100 import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
