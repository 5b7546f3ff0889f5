# Fine-tuning an ImageNet network on a fine-grained set: SGD, lr 0.01 at batch 64, cosine to 0 in 50 epochs. Our choice.
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from r2kd_mm.engine import ResumableTrainLoop

optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type=CosineAnnealingLR, T_max=50, by_epoch=True, convert_to_iter_based=True)]

train_cfg = dict(type=ResumableTrainLoop, max_epochs=50, val_interval=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

# --auto-scale-lr: lr 0.01 * (batch size * number of processes) / 64
auto_scale_lr = dict(base_batch_size=64, enable=False)
