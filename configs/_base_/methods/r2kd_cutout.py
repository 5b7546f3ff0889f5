# R2KD with Cutout: squares of 8 pixels, for images of 32; settings.yml has the lengths for larger images.
from mmengine.config import read_base

with read_base():
    from .r2kd import *

from r2kd_mm.augmentations import Cutout

model.augmentation = dict(type=Cutout, length=8)
