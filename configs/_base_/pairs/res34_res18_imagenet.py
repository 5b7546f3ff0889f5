# ResNet-34 to ResNet-18 on ImageNet: all but the method.
# lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from ..datasets.imagenet import *
    from ..distillation_runtime import *
    from ..models.imagenet_res18 import *
    from ..models.imagenet_res34 import *
    from ..schedules.sgd_100e_imagenet import *

student = res18
teacher = res34
teacher_ckpt = res34_ckpt

custom_hooks[-1].published = 'imagenet/resnet34'
