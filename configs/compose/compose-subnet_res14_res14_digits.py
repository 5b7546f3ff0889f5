# R2KD with a pruned network as the student, from new weights: half of the channels of each unit. mmrazor writes its
# structure to fix_subnet.json (compose-l1_res14_res14_digits.py). docs/compose.md says how to start from its weights.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res14_digits import *

from mmrazor.registry import sub_model

channel_unit_cfg = dict(
    type='L1MutableChannelUnit',
    default_args=dict(choice_mode='ratio'),
    units={unit: dict(choice=0.5) for unit in units},
)
fix_subnet = dict(type='ChannelMutator', channel_unit_cfg=channel_unit_cfg, parse_cfg=parse_cfg)
model.architecture = dict(type=sub_model, cfg=res14, fix_subnet=fix_subnet, mode='mutator')
