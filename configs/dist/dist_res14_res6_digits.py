# DIST (Huang et al., arXiv 2205.10536) on the digits, with the settings of its CIFAR-100 runs.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res6_digits import *

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import DISTLoss

model = dict(
    type=LogitDistiller,
    architecture=res6,
    teacher=res14,
    teacher_ckpt=res14_ckpt,
    losses=dict(loss_dist=dict(type=DISTLoss, temperature=4.0, inter_weight=2.0, intra_weight=2.0)))
