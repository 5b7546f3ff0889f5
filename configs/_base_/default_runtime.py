# What every run shares: logs, checkpoints, seed.
from mmengine.hooks import DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook, SyncBuffersHook
from mmengine.runner import LogProcessor
from mmengine.visualization import LocalVisBackend
from mmpretrain.engine import VisualizationHook
from mmpretrain.visualization import UniversalVisualizer

from r2kd_mm.hooks import DataCheckHook, RankStateHook, RunRecordHook, SafeCheckpointHook

default_scope = 'r2kd_mm'

default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=100),  # every loss by its name, the learning rate, the time left
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=SafeCheckpointHook, interval=1, max_keep_ckpts=2, save_best='accuracy/top1', rule='greater'),
    sampler_seed=dict(type=DistSamplerSeedHook),
    visualization=dict(type=VisualizationHook, enable=False),
)
custom_hooks = [
    dict(type=DataCheckHook),
    dict(type=RunRecordHook),
    dict(type=SyncBuffersHook),  # of several processes: average the batch-norm statistics each epoch
    dict(type=RankStateHook),  # and keep those of each in its checkpoints
]
log_processor = dict(type=LogProcessor, by_epoch=True, window_size=10)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # gloo is taken where there is no GPU
)
visualizer = dict(type=UniversalVisualizer, vis_backends=[dict(type=LocalVisBackend)])
log_level = 'INFO'
randomness = dict(seed=0, deterministic=False)
load_from = None
resume = False
