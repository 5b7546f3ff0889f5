# VGG-8 on Tiny-ImageNet: a student, alone. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.tiny_imagenet import *
    from .._base_.default_runtime import *
    from .._base_.schedules.sgd_240e import *

from r2kd_mm.zoo import build_classifier

model = dict(type=build_classifier, name='tiny/vgg8')
