# CMKD (Niu et al., arXiv 2410.06561) on the digits with CutMix: our reconstruction from its abstract, not the
# equations of the authors; see CMKDLoss for what we decided.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res6_digits import *

from r2kd_mm.augmentations import CutMix
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import CMKDLoss

model = dict(
    type=LogitDistiller,
    architecture=res6,
    teacher=res14,
    teacher_ckpt=res14_ckpt,
    augmentation=dict(type=CutMix, alpha=1.0),
    losses=dict(loss_cmkd=dict(type=CMKDLoss, temperature=4.0, loss_weight=4.0)),
)
