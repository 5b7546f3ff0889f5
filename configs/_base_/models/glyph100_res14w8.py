# Student for 32x32 images: ResNet-14 with 8 to 32 channels, 47,420 parameters
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet_CIFAR

res14w8 = dict(
    type=ImageClassifier,
    backbone=dict(
        type=ResNet_CIFAR,
        depth=18,  # 2 basic blocks a stage
        stem_channels=8,
        base_channels=8,
        num_stages=3,
        strides=(2, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        # PyTorch's initialisation: with the one of ResNet_CIFAR, a network this narrow does not learn
        zero_init_residual=False,
        init_cfg=[],
    ),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=100, in_channels=32, init_cfg=None),
)
