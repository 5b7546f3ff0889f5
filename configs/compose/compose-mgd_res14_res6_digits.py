# R2KD on the digits with masked generative distillation (Yang et al., arXiv 2205.01529). A part of the student's
# feature map is hidden; a generator makes the teacher's from the rest.
from mmengine.config import read_base

with read_base():
    from ..r2kd.r2kd_res14_res6_digits import *

from mmrazor.models.architectures.connectors import MGDConnector, TorchFunctionalConnector
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.losses import MGDLoss

halve = dict(type=TorchFunctionalConnector, function_name='avg_pool2d', func_args=dict(kernel_size=2))
generate = dict(type=MGDConnector, student_channels=3, teacher_channels=16, lambda_mgd=0.65)
model.features = dict(
    type=ConfigurableDistiller,
    student_recorders=dict(layer1=dict(type='ModuleOutputs', source='backbone.layer1')),
    teacher_recorders=dict(layer1=dict(type='ModuleOutputs', source='backbone.layer1')),
    connectors=dict(generator=[halve, generate]),  # (N, 3, 8, 8) to (N, 16, 4, 4)
    distill_losses=dict(loss_generation=dict(type=MGDLoss, alpha_mgd=2e-3)),
    loss_forward_mappings=dict(
        loss_generation=dict(
            preds_S=dict(recorder='layer1', from_student=True, connector='generator'),
            preds_T=dict(recorder='layer1', from_student=False),
        ),
    ),
)
