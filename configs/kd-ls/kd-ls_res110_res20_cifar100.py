# KD on standardised logits, ResNet-110 to ResNet-20 on CIFAR-100. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.kd_ls import *
    from .._base_.pairs.res110_res20_cifar100 import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.losses.loss_kd.loss.update(temperature=4.0, loss_weight=12.0)  # as its authors' log kd,resnet110,resnet20,4,12
