# CMKD, a reconstruction, added to DKD, ResNet-34 to ResNet-18 on ImageNet.
# lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.cmkd import *
    from .._base_.pairs.res34_res18_imagenet import *

from r2kd_mm.losses import DKDLoss

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.losses.loss_dkd = dict(type=DKDLoss, temperature=1.0, alpha=1.0, beta=0.5)  # as dkd_res34_res18_imagenet
