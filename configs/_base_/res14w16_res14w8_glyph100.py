# ResNet-14 to one with half of its channels on Glyph-100: all but the method.
from mmengine.config import read_base

with read_base():
    from .datasets.glyph100 import *
    from .distillation_runtime import *
    from .models.glyph100_res14w8 import *
    from .models.glyph100_res14w16 import *
    from .schedules.sgd_60e_glyph100 import *

student = res14w8
teacher = res14w16
teacher_ckpt = res14w16_ckpt

default_hooks.checkpoint.update(interval=5)
