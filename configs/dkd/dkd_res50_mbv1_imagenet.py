# DKD, ResNet-50 to MobileNetV1 on ImageNet. lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.dkd import *
    from .._base_.pairs.res50_mbv1_imagenet import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.losses.loss_dkd.update(temperature=1.0, beta=2.0)  # configs/imagenet/r50_mv1/dkd.yaml of its authors
