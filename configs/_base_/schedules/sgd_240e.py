# The 240 epochs of the CIFAR-100 and Tiny-ImageNet distillation zoo: SGD, lr 0.05 at batch 64, divided by 10 after
# epochs 150, 180 and 210. Pairs with a MobileNetV2 or ShuffleNet student start at 0.01.
from mmengine.optim import MultiStepLR, OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

from r2kd_mm.engine import ResumableTrainLoop

optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type=MultiStepLR, by_epoch=True, milestones=[150, 180, 210], gamma=0.1)]

train_cfg = dict(type=ResumableTrainLoop, max_epochs=240, val_interval=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)

# --auto-scale-lr: lr * (batch size * number of processes) / 64
auto_scale_lr = dict(base_batch_size=64, enable=False)
