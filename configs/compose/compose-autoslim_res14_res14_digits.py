# R2KD with the supernet of AutoSlim (Yu and Huang, arXiv 1903.11728) as the student. Every step trains the largest, the
# smallest and two random sub-networks. They share batch normalisation, so evaluation uses batch statistics too.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res14_digits import *

from mmrazor.models.algorithms import AutoSlim
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.mutators import OneShotChannelMutator

channel_unit_cfg = dict(
    type='OneShotMutableChannelUnit', default_args=dict(candidate_choices=[0.25, 0.5, 0.75, 1.0], choice_mode='ratio')
)
model.architecture = dict(
    type=AutoSlim,
    architecture=student,
    mutator=dict(type=OneShotChannelMutator, channel_unit_cfg=channel_unit_cfg, parse_cfg=parse_cfg),
    distiller=dict(type=ConfigurableDistiller),  # in mmrazor the largest teaches the others; here the teacher does
    norm_training=True,
)
