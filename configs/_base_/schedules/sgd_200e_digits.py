# SGD for the student, 200 epochs * 5 iterations at batch 60, chosen on the student alone: docs/digits.md.
# The correlation losses need the warm-up and the limit on the gradient norm: at the start their gradient is many times
# larger than the gradient of cross entropy. The student alone stays below the limit, so the limit does not act on it.
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from r2kd_mm.engine import ResumableTrainLoop

optim_wrapper = dict(
    type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=5e-4), clip_grad=dict(max_norm=5.0)
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, begin=0, end=10, by_epoch=True, convert_to_iter_based=True),
    dict(type=CosineAnnealingLR, T_max=190, begin=10, end=200, by_epoch=True, convert_to_iter_based=True),
]

train_cfg = dict(type=ResumableTrainLoop, max_epochs=200, val_interval=10)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
