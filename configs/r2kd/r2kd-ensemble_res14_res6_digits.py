# The losses of R2KD on the digits with two pruned copies of the teacher instead of one, and learned weights.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd import *
    from .._base_.res14_res6_digits import *

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.teachers import LearnedWeights, TeacherEnsemble

model.pop('pruner')  # R2KD makes one pair of these two
model.pop('teacher_weight')
model.update(
    type=LogitDistiller,
    architecture=res6,
    teacher=dict(
        type=TeacherEnsemble,
        members=dict(
            teacher=dict(teacher=res14, teacher_ckpt=res14_ckpt, weight=0.7),
            pruned_10=dict(copy_of='teacher', pruner=dict(type=MagnitudePruner, amount=0.1), weight=0.15),
            pruned_30=dict(copy_of='teacher', pruner=dict(type=MagnitudePruner, amount=0.3), weight=0.15),
        ),
        weighting=dict(type=LearnedWeights),
    ),
)
