# R2KD with Cutout, ResNet-50 to MobileNetV2 on MIT Indoor 67. lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd import *
    from .._base_.pairs.res50_mv2_mit67 import *

from r2kd_mm.augmentations import Cutout

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
# a quarter of the side, as the 8 of 32 and the 16 of 64 pixels in the released code
model.augmentation = dict(type=Cutout, length=56)
