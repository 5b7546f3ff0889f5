# DKD on the digits.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.dkd import *
    from .._base_.res14_res6_digits import *

from r2kd_mm.hooks import LossScheduleHook

model.update(architecture=res6, teacher=res14, teacher_ckpt=res14_ckpt)
custom_hooks.append(dict(type=LossScheduleHook, loss='loss_dkd', ramp=20))  # its warm-up of 20 epochs
