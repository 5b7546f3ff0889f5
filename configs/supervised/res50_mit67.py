# ResNet-50, pretrained on ImageNet, fine-tuned on MIT Indoor 67: a teacher. lr 0.01 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.datasets.mit67 import *
    from .._base_.default_runtime import *
    from .._base_.models.imagenet_res50 import *
    from .._base_.schedules.sgd_50e_fine_tune import *

from mmengine.model import PretrainedInit

model = res50
model.backbone.init_cfg = dict(type=PretrainedInit, checkpoint=res50_ckpt, prefix='backbone.')
model.head.num_classes = 67
