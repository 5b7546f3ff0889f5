# ResNet-34: 21,797,672 parameters
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet

res34 = dict(
    type=ImageClassifier,
    backbone=dict(type=ResNet, depth=34),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=1000, in_channels=512),
)

# published by mmpretrain (resnet34_8xb32_in1k): 73.62 % top-1
res34_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth'
