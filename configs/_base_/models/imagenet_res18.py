# ResNet-18: 11,689,512 parameters
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet

res18 = dict(
    type=ImageClassifier,
    backbone=dict(type=ResNet, depth=18),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=1000, in_channels=512),
)
