# The student alone on Glyph-100.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.glyph100 import *
    from .._base_.default_runtime import *
    from .._base_.models.glyph100_res14w8 import *
    from .._base_.schedules.sgd_60e_glyph100 import *

model = res14w8
default_hooks.checkpoint.update(interval=5)
