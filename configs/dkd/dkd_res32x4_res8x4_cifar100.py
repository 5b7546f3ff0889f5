# DKD, ResNet-32x4 to ResNet-8x4 on CIFAR-100. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.dkd import *
    from .._base_.pairs.res32x4_res8x4_cifar100 import *

from r2kd_mm.hooks import LossScheduleHook

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
custom_hooks.append(dict(type=LossScheduleHook, loss='loss_dkd', ramp=19))  # its warm-up: 1/20 in epoch 1, 20/20 in 20
