# DKD on Glyph-100, ResNet-14 to one with half of its channels.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.dkd import *
    from .._base_.res14w16_res14w8_glyph100 import *

from r2kd_mm.hooks import LossScheduleHook

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
custom_hooks.append(dict(type=LossScheduleHook, loss='loss_dkd', ramp=5))  # a warm-up of 20 of 240 epochs
