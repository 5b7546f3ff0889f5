# Student for 8x8 images: 1 stage of 2 basic blocks, 3 channels; 6 layers, 421 parameters
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet_CIFAR

res6 = dict(
    type=ImageClassifier,
    backbone=dict(
        type=ResNet_CIFAR,
        depth=18,  # 2 basic blocks a stage
        in_channels=1,
        stem_channels=3,
        base_channels=3,
        num_stages=1,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
    ),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=3),
)
