# R2KD on the digits, with CutMix.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res6_digits import *

from r2kd_mm.augmentations import CutMix
from r2kd_mm.distillers import R2KD
from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss
from r2kd_mm.pruning import MagnitudePruner

model = dict(
    type=R2KD,
    architecture=res6,
    teacher=res14,
    teacher_ckpt=res14_ckpt,
    pruner=dict(type=MagnitudePruner, amount=0.1),
    teacher_weight=0.7,
    augmentation=dict(type=CutMix, alpha=1.0),
    losses=dict(
        loss_value=dict(type=CorrelationDistanceLoss, temperature=4.0, loss_weight=2.0),
        loss_rank=dict(type=RankDistanceLoss, loss_weight=2.0),
    ),
)
