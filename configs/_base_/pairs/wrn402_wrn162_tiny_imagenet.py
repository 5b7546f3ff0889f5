# WRN-40-2 to WRN-16-2 on Tiny-ImageNet: all but the method.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from ..datasets.tiny_imagenet import *
    from ..distillation_runtime import *
    from ..schedules.sgd_240e import *

from r2kd_mm.zoo import build_classifier

student = dict(type=build_classifier, name='tiny/wrn_16_2')
teacher = dict(type=build_classifier, name='tiny/wrn_40_2')
# a public checkpoint, converted by tools/model_converters/convert_zoo_checkpoint.py, or that of
# configs/supervised/wrn402_tiny-imagenet.py
teacher_ckpt = 'checkpoints/tiny-imagenet/wrn_40_2.pth'
