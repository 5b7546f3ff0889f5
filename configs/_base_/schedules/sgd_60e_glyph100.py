# SGD, batch 64, 2 epochs of warm-up, cosine to 0. The correlation losses need the warm-up and the
# limit on the gradient norm, as on the digits.
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from r2kd_mm.engine import ResumableTrainLoop

optim_wrapper = dict(
    type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4), clip_grad=dict(max_norm=5.0)
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, begin=0, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=58, begin=2, end=60, by_epoch=True, convert_to_iter_based=True),
]

train_cfg = dict(type=ResumableTrainLoop, max_epochs=60, val_interval=5)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
