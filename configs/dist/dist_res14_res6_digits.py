# DIST on the digits, with the settings of its CIFAR-100 runs.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.dist import *
    from .._base_.res14_res6_digits import *

model.update(architecture=res6, teacher=res14, teacher_ckpt=res14_ckpt)
