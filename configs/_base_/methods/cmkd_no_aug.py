# CMKD on clean images: without the CutMix view.
from mmengine.config import read_base

with read_base():
    from .cmkd import *

model.augmentation = None
