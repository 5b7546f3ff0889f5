# KD, ResNet-50 to MobileNetV1 on ImageNet. lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.kd import *
    from .._base_.pairs.res50_mbv1_imagenet import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt, task_loss_weight=0.5)
model.losses.loss_kd.update(temperature=1.0, loss_weight=0.5)  # configs/imagenet/r50_mv1/kd.yaml of mdistiller
