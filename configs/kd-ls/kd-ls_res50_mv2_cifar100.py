# KD on standardised logits, ResNet-50 to half-width MobileNetV2 on CIFAR-100. lr 0.01 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.kd_ls import *
    from .._base_.pairs.res50_mv2_cifar100 import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.losses.loss_kd.loss.update(temperature=3.0, loss_weight=1.0)  # as its authors' log kd,ResNet50,MobileNetV2,3,1
