# Knowledge distillation (Hinton et al., arXiv 1503.02531) on the digits: 0.1 CE + 0.9 KL at T = 4.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res6_digits import *

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss

model = dict(
    type=LogitDistiller,
    architecture=res6,
    teacher=res14,
    teacher_ckpt=res14_ckpt,
    task_loss_weight=0.1,
    losses=dict(loss_kd=dict(type=KLDivergenceLoss, temperature=4.0, loss_weight=0.9)),
)
