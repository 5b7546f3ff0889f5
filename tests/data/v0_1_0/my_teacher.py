# A small teacher for the digits, in one file.
from mmengine.dataset import DefaultSampler, default_collate
from mmengine.hooks import LoggerHook, ParamSchedulerHook
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import ValLoop
from mmengine.visualization import LocalVisBackend, Visualizer
from mmpretrain.datasets import PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor, GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet_CIFAR
from torch.optim import SGD

from r2kd_mm.datasets import Digits
from r2kd_mm.engine import ResumableTrainLoop
from r2kd_mm.hooks import DataCheckHook, RunRecordHook, SafeCheckpointHook

default_scope = 'r2kd_mm'

num_classes = 10
width = 6
max_epochs = 30
pipeline = [dict(type=PackInputs)]
digits = dict(type=Digits, split='train', train_size=300, pipeline=pipeline)

network = dict(
    type=ImageClassifier,
    backbone=dict(
        type=ResNet_CIFAR,
        depth=18,
        in_channels=1,
        stem_channels=width,
        base_channels=width,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        zero_init_residual=False,
    ),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=num_classes, in_channels=2 * width),
)
model = network
data_preprocessor = dict(type=ClsDataPreprocessor, mean=[77.9], std=[95.9])

train_dataloader = dict(
    batch_size=60,
    num_workers=0,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=digits,
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(digits, split='test', test_mode=True),
)
val_evaluator = dict(type=Accuracy, topk=(1,))
val_cfg = dict(type=ValLoop)

optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1, momentum=0.9))
param_scheduler = [dict(type=CosineAnnealingLR, T_max=max_epochs, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=ResumableTrainLoop, max_epochs=max_epochs, val_interval=max_epochs)

default_hooks = dict(
    logger=dict(type=LoggerHook, interval=5),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=SafeCheckpointHook, interval=max_epochs, max_keep_ckpts=1, save_best=None),
)
custom_hooks = [dict(type=DataCheckHook), dict(type=RunRecordHook)]
visualizer = dict(type=Visualizer, vis_backends=[dict(type=LocalVisBackend)])
randomness = dict(seed=0)
