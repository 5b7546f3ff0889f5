# R2KD of a student two thirds as wide, whose teacher is asked once for each image of two rounds.
from mmengine.config import read_base

with read_base():
    from .my_teacher import *

from r2kd_mm.augmentations import CutMix
from r2kd_mm.distillers import R2KD
from r2kd_mm.engine import PairedSampler
from r2kd_mm.hooks import FiniteCheckHook, ReplayHook, TeacherCheckHook
from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss
from r2kd_mm.pruning import MagnitudePruner

student = dict(
    network,
    backbone=dict(network.backbone, stem_channels=4, base_channels=4),
    head=dict(network.head, in_channels=8),
)
model = dict(
    type=R2KD,
    architecture=student,
    teacher=network,
    teacher_ckpt='teacher/epoch_30.pth',
    pruner=dict(type=MagnitudePruner, amount=0.1),
    augmentation=dict(type=CutMix, alpha=1.0, per_image=True),
    losses=dict(
        loss_value=dict(type=CorrelationDistanceLoss, temperature=4.0, loss_weight=2.0),
        loss_rank=dict(type=RankDistanceLoss, loss_weight=2.0),
    ),
    replay=dict(folder='store'),
)
train_dataloader.sampler.type = PairedSampler
train_cfg.update(max_epochs=8, val_interval=4, cycle=2)
param_scheduler[0].T_max = 8
optim_wrapper.clip_grad = dict(max_norm=5.0)
default_hooks.checkpoint.update(interval=4, max_keep_ckpts=2)
custom_hooks += [dict(type=ReplayHook), dict(type=FiniteCheckHook), dict(type=TeacherCheckHook)]
