# kd_res14_res6_digits.py on the clean images and on a CutMix view, as in R2KD. It separates the view from the losses.
from mmengine.config import read_base

with read_base():
    from .kd_res14_res6_digits import *

from r2kd_mm.augmentations import CutMix

model.augmentation = dict(type=CutMix, alpha=1.0)
