# Shared by every distillation on the digits: all but the model.
from mmengine.config import read_base

with read_base():
    from .datasets.digits import *
    from .distillation_runtime import *
    from .models.digits_res6 import *
    from .models.digits_res14 import *
    from .schedules.sgd_200e_digits import *

default_hooks.checkpoint.update(interval=20, max_keep_ckpts=2, save_best=None)  # the last epoch, not the best
