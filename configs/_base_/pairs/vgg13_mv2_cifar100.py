# VGG-13 to half-width MobileNetV2 on CIFAR-100: all but the method.
# lr 0.01 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from ..datasets.cifar100 import *
    from ..distillation_runtime import *
    from ..schedules.sgd_240e import *

from r2kd_mm.zoo import build_classifier

student = dict(type=build_classifier, name='cifar/mobilenetv2')
teacher = dict(type=build_classifier, name='cifar/vgg13')
# a public checkpoint, converted by tools/model_converters/convert_zoo_checkpoint.py, or that of
# configs/supervised/vgg13_cifar100.py
teacher_ckpt = 'checkpoints/cifar100/vgg13.pth'

custom_hooks[-1].published = 'cifar100/vgg13'

optim_wrapper.optimizer.lr = 0.01
