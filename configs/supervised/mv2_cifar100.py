# Half-width MobileNetV2 on CIFAR-100: a student, alone. lr 0.01 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.cifar100 import *
    from .._base_.default_runtime import *
    from .._base_.schedules.sgd_240e import *

from r2kd_mm.zoo import build_classifier

model = dict(type=build_classifier, name='cifar/mobilenetv2')

optim_wrapper.optimizer.lr = 0.01
