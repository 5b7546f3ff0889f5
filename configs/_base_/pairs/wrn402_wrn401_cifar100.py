# WRN-40-2 to WRN-40-1 on CIFAR-100: all but the method.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from ..datasets.cifar100 import *
    from ..distillation_runtime import *
    from ..schedules.sgd_240e import *

from r2kd_mm.zoo import build_classifier

student = dict(type=build_classifier, name='cifar/wrn_40_1')
teacher = dict(type=build_classifier, name='cifar/wrn_40_2')
# a public checkpoint, converted by tools/model_converters/convert_zoo_checkpoint.py, or that of
# configs/supervised/wrn402_cifar100.py
teacher_ckpt = 'checkpoints/cifar100/wrn_40_2.pth'

custom_hooks[-1].published = 'cifar100/wrn_40_2'
