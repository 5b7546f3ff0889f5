# R2KD while mmrazor prunes the student. Every 10 epochs each unit loses a twentieth of its channels, those of least L1
# norm, until half are left. Each validation writes the structure and the weights that are left to the work dir.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res14_digits import *

from mmrazor.engine.runner.iteprune_val_loop import ItePruneValLoop
from mmrazor.models.algorithms import ItePruneAlgorithm
from mmrazor.models.mutators import ChannelMutator

channel_unit_cfg = dict(type='L1MutableChannelUnit', default_args=dict(choice_mode='ratio'))
model.architecture = dict(
    type=ItePruneAlgorithm,
    architecture=student,
    mutator_cfg=dict(type=ChannelMutator, channel_unit_cfg=channel_unit_cfg, parse_cfg=parse_cfg),
    target_pruning_ratio=dict.fromkeys(units, 0.5),
    step_freq=10,
    prune_times=10,
)
val_cfg = dict(type=ItePruneValLoop)
