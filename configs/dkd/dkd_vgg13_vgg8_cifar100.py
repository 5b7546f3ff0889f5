# DKD, VGG-13 to VGG-8 on CIFAR-100. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.dkd import *
    from .._base_.pairs.vgg13_vgg8_cifar100 import *

from r2kd_mm.hooks import LossScheduleHook

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.losses.loss_dkd.beta = 6.0  # configs/cifar100/dkd/vgg13_vgg8.yaml of its authors
custom_hooks.append(dict(type=LossScheduleHook, loss='loss_dkd', ramp=19))  # its warm-up: 1/20 in epoch 1, 20/20 in 20
