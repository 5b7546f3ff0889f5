# R2KD as released: with the choices of the authors' released code, see docs/method.md.
from mmengine.config import read_base

with read_base():
    from .r2kd import *

model.merge(
    dict(
        pruned_teacher_mode='train',  # batch statistics, which drift
        augmentation=dict(per_image=False),  # one box a batch
        losses=dict(
            loss_value=dict(eps=1e-8),  # added to the product of norms
            loss_rank=dict(estimator='hard'),  # a value without gradient: shown, not trained
        ),
    )
)
