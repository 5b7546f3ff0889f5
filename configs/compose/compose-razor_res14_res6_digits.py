# The losses of R2KD in mmrazor's own distillation, SingleTeacherDistill: on the clean images, with the full teacher.
from mmengine.config import read_base

with read_base():
    from .._base_.razor_digits import *

from mmrazor.models.algorithms import SingleTeacherDistill

model = dict(type=SingleTeacherDistill, architecture=res6, teacher=res14, teacher_ckpt=res14_ckpt, distiller=distiller)
