# MobileNetV2 of full width: 3,504,872 parameters
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, MobileNetV2

mv2 = dict(
    type=ImageClassifier,
    backbone=dict(type=MobileNetV2, widen_factor=1.0),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=1000, in_channels=1280),
)
