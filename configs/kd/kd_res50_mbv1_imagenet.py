# Knowledge distillation (arXiv 1503.02531), ResNet-50 to MobileNetV1 on ImageNet: 0.1 CE + 0.9 KL (T = 4)
# lr 0.1 is for 8 GPUs * 32 images = 256; otherwise add --auto-scale-lr.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.imagenet import *
    from .._base_.distillation_runtime import *
    from .._base_.models.mbv1_imagenet import *
    from .._base_.models.res50_imagenet import *
    from .._base_.schedules.sgd_100e_imagenet import *

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss

model = dict(
    type=LogitDistiller,
    architecture=mbv1,
    teacher=res50,
    teacher_ckpt=res50_ckpt,
    task_loss_weight=0.1,
    losses=dict(loss_kd=dict(type=KLDivergenceLoss, temperature=4.0, loss_weight=0.9)),
)
