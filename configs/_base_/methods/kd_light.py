# Knowledge distillation for small folders of photos: cross entropy with weight 1, KL at T = 1. docs/own_photos.md has
# its measurements.
from mmengine.config import read_base

with read_base():
    from .kd import *

model.task_loss_weight = 1.0
model.losses.loss_kd.temperature = 1.0
