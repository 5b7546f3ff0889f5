# ResNet-56 to ResNet-20 on CIFAR-100: all but the method.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from ..datasets.cifar100 import *
    from ..distillation_runtime import *
    from ..schedules.sgd_240e import *

from r2kd_mm.zoo import build_classifier

student = dict(type=build_classifier, name='cifar/resnet20')
teacher = dict(type=build_classifier, name='cifar/resnet56')
# a public checkpoint, converted by tools/model_converters/convert_zoo_checkpoint.py, or that of
# configs/supervised/res56_cifar100.py
teacher_ckpt = 'checkpoints/cifar100/resnet56.pth'

custom_hooks[-1].published = 'cifar100/resnet56'
