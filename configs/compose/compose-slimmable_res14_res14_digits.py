# R2KD with a slimmable student (Yu et al., arXiv 1812.08928): one set of weights and two widths. Each width has its own
# batch normalisation, and every step trains both.
from mmengine.config import read_base

with read_base():
    from .._base_.res14_res14_digits import *

from mmrazor.engine.runner.slimmable_val_loop import SlimmableValLoop
from mmrazor.models.algorithms import SlimmableNetwork
from mmrazor.models.mutators import SlimmableChannelMutator

widths = {
    unit: dict(init_args=dict(candidate_choices=[width // 2, width], choice_mode='number'))
    for unit, width in units.items()
}
model.architecture = dict(
    type=SlimmableNetwork,
    architecture=res14,
    mutator=dict(
        type=SlimmableChannelMutator,
        channel_unit_cfg=dict(type='SlimmableChannelUnit', units=widths),
        parse_cfg=parse_cfg,
    ),
)
find_unused_parameters = True  # mmrazor makes one batch normalisation that it never uses
val_cfg = dict(type=SlimmableValLoop)
