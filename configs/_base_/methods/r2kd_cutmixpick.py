# R2KD with CutMixPick: the mixed images on which the teacher is least certain.
from mmengine.config import read_base

with read_base():
    from .r2kd import *

from r2kd_mm.augmentations import CutMixPick

model.augmentation = dict(type=CutMixPick, alpha=1.0)
