# KD on standardised logits (Sun et al., arXiv 2403.01427) on the digits: 0.1 CE + 9 KL of the z-scores at T = 2.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res6_digits import *

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss, LogitStandardization

model = dict(
    type=LogitDistiller,
    architecture=res6,
    teacher=res14,
    teacher_ckpt=res14_ckpt,
    task_loss_weight=0.1,
    losses=dict(
        loss_kd=dict(type=LogitStandardization, loss=dict(type=KLDivergenceLoss, temperature=2.0, loss_weight=9.0))
    ),
)
