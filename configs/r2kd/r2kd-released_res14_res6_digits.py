# R2KD on the digits, with the choices of the authors' released code.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd_released import *
    from .._base_.res14_res6_digits import *

model.update(architecture=res6, teacher=res14, teacher_ckpt=res14_ckpt)
