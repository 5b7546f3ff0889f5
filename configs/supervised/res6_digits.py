# The student alone, which every distillation on the digits is compared with.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.digits import *
    from .._base_.default_runtime import *
    from .._base_.models.digits_res6 import *
    from .._base_.schedules.sgd_200e_digits import *

model = res6
default_hooks.checkpoint.update(interval=20, max_keep_ckpts=2, save_best=None)  # the last epoch, not the best
