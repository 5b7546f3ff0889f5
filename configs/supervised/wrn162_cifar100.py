# WRN-16-2 on CIFAR-100: a student, alone. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.cifar100 import *
    from .._base_.default_runtime import *
    from .._base_.schedules.sgd_240e import *

from r2kd_mm.zoo import build_classifier

model = dict(type=build_classifier, name='cifar/wrn_16_2')
