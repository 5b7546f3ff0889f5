# Shared by every run: logs, checkpoints, seed.
from mmengine.hooks import DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook, SyncBuffersHook
from mmengine.runner import LogProcessor
from mmengine.visualization import LocalVisBackend
from mmpretrain.engine import VisualizationHook
from mmpretrain.visualization import UniversalVisualizer

from r2kd_mm.hooks import ChanceCheckHook, DataCheckHook, RankStateHook, RunRecordHook, SafeCheckpointHook

default_scope = 'r2kd_mm'

default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=100),  # each loss by name, the learning rate, the time left
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=SafeCheckpointHook, interval=1, max_keep_ckpts=2, save_best='accuracy/top1', rule='greater'),
    sampler_seed=dict(type=DistSamplerSeedHook),
    visualization=dict(type=VisualizationHook, enable=False),
    chance=dict(type=ChanceCheckHook, steps=200),  # warns of a run that still guesses then
)
custom_hooks = [
    dict(type=DataCheckHook),
    dict(type=RunRecordHook),
    dict(type=SyncBuffersHook),  # average the batch-norm statistics of all processes after each epoch
    dict(type=RankStateHook),  # save the batch-norm statistics of each process in the checkpoints
]
log_processor = dict(type=LogProcessor, by_epoch=True, window_size=10)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # without a GPU it is gloo
)
visualizer = dict(type=UniversalVisualizer, vis_backends=[dict(type=LocalVisBackend)])
log_level = 'INFO'
randomness = dict(seed=0, deterministic=False)
load_from = None
resume = False
