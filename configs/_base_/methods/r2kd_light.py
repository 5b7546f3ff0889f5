# R2KD for small folders of photos: both terms with a sixteenth of their weight, as in dist_light.py.
from mmengine.config import read_base

with read_base():
    from .r2kd import *

model.losses.loss_value.loss_weight = 2.0 / 16
model.losses.loss_rank.loss_weight = 2.0 / 16
