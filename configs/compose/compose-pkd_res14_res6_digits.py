# R2KD on the digits with the Pearson correlation of features (Cao et al., arXiv 2207.02039). The features are taken
# before the last activation of a stage.
from mmengine.config import read_base

with read_base():
    from ..r2kd.r2kd_res14_res6_digits import *

from mmrazor.models.architectures.connectors import TorchNNConnector
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.losses import PKDLoss

halve = dict(in_channels=3, out_channels=16, kernel_size=3, stride=2, padding=1)  # (N, 3, 8, 8) to (N, 16, 4, 4)
model.features = dict(
    type=ConfigurableDistiller,
    student_recorders=dict(bn=dict(type='ModuleOutputs', source='backbone.layer1.1.bn2')),
    teacher_recorders=dict(bn=dict(type='ModuleOutputs', source='backbone.layer1.1.bn2')),
    connectors=dict(regressor=dict(type=TorchNNConnector, module_name='Conv2d', module_args=halve)),
    distill_losses=dict(loss_pearson=dict(type=PKDLoss)),
    loss_forward_mappings=dict(
        loss_pearson=dict(
            preds_S=dict(recorder='bn', from_student=True, connector='regressor'),
            preds_T=dict(recorder='bn', from_student=False),
        ),
    ),
)
