# SGD for the teacher: 60 epochs * 5 iterations, lr 0.05 at batch 60, cosine to 0.
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from r2kd_mm.engine import ResumableTrainLoop

optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type=CosineAnnealingLR, T_max=60, by_epoch=True, convert_to_iter_based=True)]

train_cfg = dict(type=ResumableTrainLoop, max_epochs=60, val_interval=10)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
