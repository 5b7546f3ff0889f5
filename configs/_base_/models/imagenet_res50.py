# ResNet-50: 25,557,032 parameters
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet

res50 = dict(
    type=ImageClassifier,
    backbone=dict(type=ResNet, depth=50),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=1000, in_channels=2048),
)

# published by mmpretrain (resnet50_8xb32_in1k): 76.55 % top-1
res50_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'
