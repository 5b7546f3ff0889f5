# Knowledge distillation (arXiv 1503.02531), ResNet-34 to ResNet-18 on ImageNet: 0.1 CE + 0.9 KL (T = 4)
# lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.imagenet import *
    from .._base_.distillation_runtime import *
    from .._base_.models.res18_imagenet import *
    from .._base_.models.res34_imagenet import *
    from .._base_.schedules.sgd_100e_imagenet import *

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss

model = dict(
    type=LogitDistiller,
    architecture=res18,
    teacher=res34,
    teacher_ckpt=res34_ckpt,
    task_loss_weight=0.1,
    losses=dict(loss_kd=dict(type=KLDivergenceLoss, temperature=4.0, loss_weight=0.9)),
)
