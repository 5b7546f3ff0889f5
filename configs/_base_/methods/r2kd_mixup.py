# R2KD with Mixup: alpha as in mdistiller/distillers/R2KD.py of github.com/Seonghak35/R2KD.
from mmengine.config import read_base

with read_base():
    from .r2kd import *

from r2kd_mm.augmentations import Mixup

model.augmentation = dict(type=Mixup, alpha=0.2)
