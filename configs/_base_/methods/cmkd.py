# CMKD: with CutMix. Our reconstruction from the abstract of Niu et al., arXiv 2410.06561, without the equations of the
# authors. CMKDLoss lists our choices.
from r2kd_mm.augmentations import CutMix
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import CMKDLoss

model = dict(
    type=LogitDistiller,
    augmentation=dict(type=CutMix, alpha=1.0),
    losses=dict(loss_cmkd=dict(type=CMKDLoss, temperature=4.0, loss_weight=4.0)),
)
