# R2KD+: R2KD without its augmented view, its pruned copy on the statistics of the batch. At as many passes, which is
# twice the epochs, it is above R2KD where training is short: docs/evidence.md.
from mmengine.config import read_base

with read_base():
    from .r2kd import *

model.update(augmentation=None, pruned_teacher_mode='train')
