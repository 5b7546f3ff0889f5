# CMKD, a reconstruction, on the clean images only, ResNet-34 to ResNet-18 on Stanford 40 Actions.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.cmkd import *
    from .._base_.pairs.res34_res18_stanford40 import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt, augmentation=None)
