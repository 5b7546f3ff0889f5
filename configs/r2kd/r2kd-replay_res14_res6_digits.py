# R2KD on the digits from stored logits. The teachers compute them once for each of 4 rounds of images.
from mmengine.config import read_base

with read_base():
    from .r2kd_res14_res6_digits import *

from r2kd_mm.augmentations import CutMix
from r2kd_mm.engine import PairedSampler
from r2kd_mm.hooks import ReplayHook

model.update(augmentation=dict(type=CutMix, alpha=1.0, per_image=True), replay=dict(folder='work_dirs/replay'))
train_dataloader.update(sampler=dict(type=PairedSampler))
train_cfg.update(cycle=4)
custom_hooks.insert(-1, dict(type=ReplayHook))
