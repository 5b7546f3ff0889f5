# DIST for small folders of photos: without the factor T**2 = 16, as in the appendix of the paper, so that cross entropy
# keeps a say. How it was chosen: docs/own_photos.md.
from mmengine.config import read_base

with read_base():
    from .dist import *

model.losses.loss_dist.scale_by_temperature = False
