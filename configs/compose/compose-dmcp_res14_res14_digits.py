# DMCP (Guo et al., arXiv 2005.03354) searches the widths of a ResNet-14. The largest sub-network teaches the others
# with the losses of R2KD. It cannot be the student of a distiller, since it has a training step of its own.
from mmengine.config import read_base

with read_base():
    from .._base_.razor_digits import *

from mmrazor.engine import SeparateOptimWrapperConstructor
from mmrazor.models.algorithms import DMCP
from mmrazor.models.mutators import DMCPChannelMutator
from torch.optim import Adam

# DMCP counts FLOPs on images of three channels
train_dataloader.dataset.update(channels=3)
val_dataloader.dataset.update(channels=3)
test_dataloader.dataset.update(channels=3)
res14.backbone.update(in_channels=3)
colour = dict(type='ChannelAnalyzer', demo_input=(1, 3, 8, 8), tracer_type='BackwardTracer')
model = dict(
    type=DMCP,
    architecture=res14,
    distiller=distiller,
    mutator_cfg=dict(type=DMCPChannelMutator, parse_cfg=colour),
    arch_start_train=500,  # iterations
    arch_train_freq=10,
    distillation_times=0,
    target_flops=150,  # in millions, at 224 x 224 pixels
)
mutator = dict(type=optim_wrapper.type, optimizer=dict(type=Adam, lr=0.01))
optim_wrapper = dict(constructor=SeparateOptimWrapperConstructor, architecture=optim_wrapper, mutator=mutator)
