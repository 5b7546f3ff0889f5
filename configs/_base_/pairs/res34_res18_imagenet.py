# ResNet-34 to ResNet-18 on ImageNet: all but the method.
from mmengine.config import read_base

with read_base():
    from ..datasets.imagenet import *
    from ..distillation_runtime import *
    from ..models.res18_imagenet import *
    from ..models.res34_imagenet import *
    from ..schedules.sgd_100e_imagenet import *

student = res18
teacher = res34
teacher_ckpt = res34_ckpt

custom_hooks[-1].published = 'imagenet/resnet34'
