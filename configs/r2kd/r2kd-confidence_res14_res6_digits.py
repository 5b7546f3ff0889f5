# R2KD on the digits. Teacher and pruned copy are weighted for each image; the more confident one counts more.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd import *
    from .._base_.res14_res6_digits import *

from r2kd_mm.teachers import ConfidenceWeights

model.update(architecture=res6, teacher=res14, teacher_ckpt=res14_ckpt, weighting=dict(type=ConfidenceWeights, tau=1.0))
