# Teacher for 8x8 images: 3 stages of 2 basic blocks, 16 to 64 channels; 14 layers, 175,258 parameters
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet_CIFAR

res14 = dict(
    type=ImageClassifier,
    backbone=dict(
        type=ResNet_CIFAR,
        depth=18,  # 2 basic blocks a stage
        in_channels=1,
        stem_channels=16,
        base_channels=16,
        num_stages=3,
        strides=(2, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=64),
)

# written by python tools/train.py configs/supervised/res14_digits.py
res14_ckpt = 'work_dirs/res14_digits/epoch_60.pth'
