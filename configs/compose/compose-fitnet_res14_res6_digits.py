# R2KD on the digits with the hint of FitNet (Romero et al., arXiv 1412.6550). The student's feature map passes a
# trained convolution and is matched to the teacher's.
from mmengine.config import read_base

with read_base():
    from ..r2kd.r2kd_res14_res6_digits import *

from mmrazor.models.architectures.connectors import TorchNNConnector
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.losses import L2Loss

halve = dict(in_channels=3, out_channels=16, kernel_size=3, stride=2, padding=1)  # (N, 3, 8, 8) to (N, 16, 4, 4)
model.features = dict(
    type=ConfigurableDistiller,
    student_recorders=dict(layer1=dict(type='ModuleOutputs', source='backbone.layer1')),
    teacher_recorders=dict(layer1=dict(type='ModuleOutputs', source='backbone.layer1')),
    connectors=dict(regressor=dict(type=TorchNNConnector, module_name='Conv2d', module_args=halve)),
    distill_losses=dict(loss_hint=dict(type=L2Loss, normalize=False, div_element=True)),
    loss_forward_mappings=dict(
        loss_hint=dict(
            s_feature=dict(recorder='layer1', from_student=True, connector='regressor'),
            t_feature=dict(recorder='layer1', from_student=False),
        ),
    ),
)
