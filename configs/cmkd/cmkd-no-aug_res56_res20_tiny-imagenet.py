# CMKD, a reconstruction, on the clean images only, ResNet-56 to ResNet-20 on Tiny-ImageNet.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.cmkd import *
    from .._base_.pairs.res56_res20_tiny_imagenet import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt, augmentation=None)
