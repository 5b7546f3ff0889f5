# Shared by the runs in which mmrazor narrows a trained ResNet-14. The teacher is the same network before narrowing.
from mmengine.config import read_base

with read_base():
    from .methods.r2kd import *
    from .res14_res6_digits import *

student = dict(res14, init_cfg=dict(type='Pretrained', checkpoint=res14_ckpt))
model.update(teacher=res14, teacher_ckpt=res14_ckpt)

# How mmrazor finds the channels that must be removed together. A unit is named by layer, channels and number.
parse_cfg = dict(type='ChannelAnalyzer', demo_input=(1, 1, 8, 8), tracer_type='BackwardTracer')
units = {
    'backbone.conv1_(0, 16)_16': 16,
    'backbone.layer1.0.conv1_(0, 16)_16': 16,
    'backbone.layer1.0.conv2_(0, 16)_16': 16,
    'backbone.layer1.1.conv1_(0, 16)_16': 16,
    'backbone.layer2.0.conv1_(0, 32)_32': 32,
    'backbone.layer2.0.conv2_(0, 32)_32': 32,
    'backbone.layer2.1.conv1_(0, 32)_32': 32,
    'backbone.layer3.0.conv1_(0, 64)_64': 64,
    'backbone.layer3.0.conv2_(0, 64)_64': 64,
    'backbone.layer3.1.conv1_(0, 64)_64': 64,
}
