# CMKD on the digits with CutMix: our reconstruction, see _base_/methods/cmkd.py.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.cmkd import *
    from .._base_.res14_res6_digits import *

model.update(architecture=res6, teacher=res14, teacher_ckpt=res14_ckpt)
