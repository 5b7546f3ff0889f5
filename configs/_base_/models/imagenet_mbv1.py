# MobileNetV1 of full width: 4,231,976 parameters
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead

from r2kd_mm.backbones import MobileNetV1

mbv1 = dict(
    type=ImageClassifier,
    backbone=dict(type=MobileNetV1),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=1000, in_channels=1024),
)
