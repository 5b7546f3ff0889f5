# ResNet-34, pretrained on ImageNet, fine-tuned on CUB-200-2011: a teacher. lr 0.01 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.cub200 import *
    from .._base_.default_runtime import *
    from .._base_.models.imagenet_res34 import *
    from .._base_.schedules.sgd_50e_fine_tune import *

from mmengine.model import PretrainedInit

model = res34
model.backbone.init_cfg = dict(type=PretrainedInit, checkpoint=res34_ckpt, prefix='backbone.')
model.head.num_classes = 200
