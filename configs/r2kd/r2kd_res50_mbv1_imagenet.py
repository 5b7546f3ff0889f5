# R2KD, ResNet-50 to MobileNetV1 on ImageNet. lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.imagenet import *
    from .._base_.distillation_runtime import *
    from .._base_.models.mbv1_imagenet import *
    from .._base_.models.res50_imagenet import *
    from .._base_.schedules.sgd_100e_imagenet import *

from r2kd_mm.augmentations import CutMix
from r2kd_mm.distillers import R2KD
from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss
from r2kd_mm.pruning import MagnitudePruner

model = dict(
    type=R2KD,
    architecture=mbv1,
    teacher=res50,
    teacher_ckpt=res50_ckpt,
    pruner=dict(type=MagnitudePruner, amount=0.1),
    teacher_weight=0.7,
    augmentation=dict(type=CutMix, alpha=1.0),
    losses=dict(
        loss_value=dict(type=CorrelationDistanceLoss, temperature=4.0, loss_weight=2.0),
        loss_rank=dict(type=RankDistanceLoss, loss_weight=2.0),
    ),
)
