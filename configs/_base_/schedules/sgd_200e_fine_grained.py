# Students from scratch on the fine-grained sets: SGD, lr 0.05 at batch 64, cosine to 0 in 200 epochs. Our choice: the
# paper's schedule is not public to us.
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from r2kd_mm.engine import ResumableTrainLoop

optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type=CosineAnnealingLR, T_max=200, by_epoch=True, convert_to_iter_based=True)]

train_cfg = dict(type=ResumableTrainLoop, max_epochs=200, val_interval=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

# --auto-scale-lr: lr 0.05 * (batch size * number of processes) / 64
auto_scale_lr = dict(base_batch_size=64, enable=False)
