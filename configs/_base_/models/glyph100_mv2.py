# Student of another family for 32x32 images: MobileNetV2 with a quarter of the channels
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead

from r2kd_mm.backbones import CIFARMobileNetV2

mv2 = dict(
    type=ImageClassifier,
    backbone=dict(type=CIFARMobileNetV2, widen_factor=0.25),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=100, in_channels=1280, init_cfg=None),
)
