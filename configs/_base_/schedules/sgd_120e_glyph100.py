# As sgd_60e_glyph100.py in twice the epochs: with one view of an image, as many passes as there with two.
from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

with read_base():
    from .sgd_60e_glyph100 import *

param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, begin=0, end=4, by_epoch=True, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=116, begin=4, end=120, by_epoch=True, convert_to_iter_based=True),
]
train_cfg.update(max_epochs=120, val_interval=10)
