# The 100 epochs of R2KD's released ImageNet runs: SGD, lr 0.1 at batch 256, divided by 10 after epochs 30, 60 and 90.
from mmengine.optim import MultiStepLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from r2kd_mm.engine import ResumableTrainLoop

optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type=MultiStepLR, by_epoch=True, milestones=[30, 60, 90], gamma=0.1)]

train_cfg = dict(type=ResumableTrainLoop, max_epochs=100, val_interval=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

# --auto-scale-lr: lr 0.1 * (batch size * number of processes) / 256
auto_scale_lr = dict(base_batch_size=256, enable=False)
