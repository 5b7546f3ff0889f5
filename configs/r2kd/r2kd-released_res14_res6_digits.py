# As r2kd_res14_res6_digits.py, with the decisions of the authors' released code.
from mmengine.config import read_base

with read_base():
    from .r2kd_res14_res6_digits import *

model.merge(
    dict(
        pruned_teacher_mode='train',  # batch statistics, which drift
        augmentation=dict(per_image=False),  # one box a batch
        losses=dict(
            loss_value=dict(eps=1e-8),  # added to the product of norms
            loss_rank=dict(estimator='hard'),
        ),
    )
)  # a value without gradient: shown, not trained
