# CMKD, a reconstruction, on the clean images only, WRN-40-2 to WRN-16-2 on Tiny-ImageNet.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.cmkd import *
    from .._base_.pairs.wrn402_wrn162_tiny_imagenet import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt, augmentation=None)
