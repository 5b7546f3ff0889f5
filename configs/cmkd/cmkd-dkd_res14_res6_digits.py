# cmkd_res14_res6_digits.py plus the loss of DKD. DKD needs labels, so it sees the clean images only.
from mmengine.config import read_base

with read_base():
    from .cmkd_res14_res6_digits import *

from r2kd_mm.hooks import LossScheduleHook
from r2kd_mm.losses import DKDLoss

model.losses.loss_dkd = dict(type=DKDLoss, temperature=4.0, alpha=1.0, beta=8.0)
custom_hooks.append(dict(type=LossScheduleHook, loss='loss_dkd', ramp=20))  # its warm-up of 20 epochs
