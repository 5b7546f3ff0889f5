# cmkd_res14_res6_digits.py on clean images only.
from mmengine.config import read_base

with read_base():
    from .cmkd_res14_res6_digits import *

model.augmentation = None
