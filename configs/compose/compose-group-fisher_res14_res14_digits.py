# R2KD while mmrazor prunes the student by Group Fisher (Liu et al., arXiv 2108.00708): one channel every 10 iterations.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res14_digits import *

from mmrazor.implementations.pruning.group_fisher import GroupFisherAlgorithm, GroupFisherChannelMutator

from r2kd_mm.hooks import GroupFisherHook

channel_unit_cfg = dict(type='GroupFisherChannelUnit')
model.architecture = dict(
    type=GroupFisherAlgorithm,
    architecture=student,
    mutator=dict(type=GroupFisherChannelMutator, channel_unit_cfg=channel_unit_cfg, parse_cfg=parse_cfg),
    interval=10,
)
custom_hooks.append(dict(type=GroupFisherHook))
