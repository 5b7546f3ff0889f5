# DKD (Zhao et al., arXiv 2203.08679) on the digits, with the settings of most of its CIFAR-100 runs.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res6_digits import *

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.hooks import LossScheduleHook
from r2kd_mm.losses import DKDLoss

model = dict(
    type=LogitDistiller,
    architecture=res6,
    teacher=res14,
    teacher_ckpt=res14_ckpt,
    losses=dict(loss_dkd=dict(type=DKDLoss, temperature=4.0, alpha=1.0, beta=8.0)),
)
custom_hooks.append(dict(type=LossScheduleHook, loss='loss_dkd', ramp=20))  # its warm-up of 20 epochs
