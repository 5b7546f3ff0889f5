# MobileNetV1 on ImageNet: a student, alone. Distillations are compared with it.
# lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.imagenet import *
    from .._base_.default_runtime import *
    from .._base_.models.imagenet_mbv1 import *
    from .._base_.schedules.sgd_100e_imagenet import *

model = mbv1
