# Shared by the runs on the digits in which an algorithm of mmrazor distils with the losses of R2KD.
from mmengine.config import read_base

with read_base():
    from .datasets.digits import *
    from .default_runtime import *
    from .models.digits_res6 import *
    from .models.digits_res14 import *
    from .schedules.sgd_200e_digits import *

from mmrazor.models.distillers import ConfigurableDistiller

from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss

default_hooks.checkpoint.update(interval=20, max_keep_ckpts=2, save_best=None)  # the last epoch, not the best

logits = dict(type='ModuleOutputs', source='head.fc')
of_both = dict(
    student_logits=dict(recorder='logits', from_student=True),
    teacher_logits=dict(recorder='logits', from_student=False),
)
distiller = dict(
    type=ConfigurableDistiller,
    student_recorders=dict(logits=logits),
    teacher_recorders=dict(logits=logits),
    distill_losses=dict(
        loss_value=dict(type=CorrelationDistanceLoss, temperature=4.0, loss_weight=2.0),
        loss_rank=dict(type=RankDistanceLoss, loss_weight=2.0),
    ),
    loss_forward_mappings=dict(loss_value=of_both, loss_rank=of_both),
)
