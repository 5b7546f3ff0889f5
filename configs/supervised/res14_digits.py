# The teacher of every distillation on the digits, trained on their 300 images.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.digits import *
    from .._base_.default_runtime import *
    from .._base_.models.digits_res14 import *
    from .._base_.schedules.sgd_60e_digits import *

model = res14
default_hooks.checkpoint.update(interval=10, max_keep_ckpts=2, save_best=None)  # the last epoch, not the best
