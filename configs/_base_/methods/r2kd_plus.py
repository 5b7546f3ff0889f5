# R2KD+: R2KD without its augmented view, its pruned copy on the statistics of the batch. Both are above R2KD at as many
# passes, which is twice the epochs: docs/evidence.md.
from mmengine.config import read_base

with read_base():
    from .r2kd import *

model.update(augmentation=None, pruned_teacher_mode='train')
