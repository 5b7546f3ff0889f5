# R2KD on the digits with attention transfer (Zagoruyko and Komodakis, arXiv 1612.03928). It matches where in the image
# the networks are active, for any number of channels.
from mmengine.config import read_base

with read_base():
    from ..r2kd.r2kd_res14_res6_digits import *

from mmrazor.models.architectures.connectors import TorchFunctionalConnector
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.losses import ATLoss

halve = dict(function_name='avg_pool2d', func_args=dict(kernel_size=2))  # (N, 3, 8, 8) to (N, 3, 4, 4)
model.features = dict(
    type=ConfigurableDistiller,
    student_recorders=dict(layer1=dict(type='ModuleOutputs', source='backbone.layer1')),
    teacher_recorders=dict(layer1=dict(type='ModuleOutputs', source='backbone.layer1')),
    connectors=dict(halve=dict(type=TorchFunctionalConnector, **halve)),
    distill_losses=dict(loss_attention=dict(type=ATLoss, loss_weight=1000.0)),
    loss_forward_mappings=dict(
        loss_attention=dict(
            s_feature=dict(recorder='layer1', from_student=True, connector='halve'),
            t_feature=dict(recorder='layer1', from_student=False),
        ),
    ),
)
