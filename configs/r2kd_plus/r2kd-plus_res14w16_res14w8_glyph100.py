# R2KD+ on Glyph-100, ResNet-14 to one with half of its channels.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd_plus import *
    from .._base_.res14w16_res14w8_glyph100 import *
    from .._base_.schedules.sgd_120e_glyph100 import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
default_hooks.checkpoint.update(interval=10)
