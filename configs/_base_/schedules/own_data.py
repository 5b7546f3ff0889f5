# Photos of one's own: AdamW, lr 2e-3 at batch 32 from random weights (2e-4 from published ones), 2 epochs of warm-up,
# cosine to 0 at the end of the run, whatever train_cfg.max_epochs is. The method that goes with it is dist_light.py in
# ../methods. How both were chosen: docs/own_photos.md.
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import AdamW

from r2kd_mm.engine import ResumableTrainLoop

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),  # without it a distillation with several terms can collapse in its first steps
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, by_epoch=True, convert_to_iter_based=True),  # no T_max: it ends with the run
]

train_cfg = dict(type=ResumableTrainLoop, max_epochs=100, val_interval=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

# --auto-scale-lr: lr 2e-3 * (batch size * number of processes) / 32
auto_scale_lr = dict(base_batch_size=32, enable=False)
