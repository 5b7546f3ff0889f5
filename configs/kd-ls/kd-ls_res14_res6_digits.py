# KD on standardised logits on the digits.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.kd_ls import *
    from .._base_.res14_res6_digits import *

model.update(architecture=res6, teacher=res14, teacher_ckpt=res14_ckpt)
