# Tiny-ImageNet at 64 x 64: crop from a border of 8 black pixels and flip, normalised as ImageNet.
from mmengine.dataset import DefaultSampler, default_collate
from mmpretrain.datasets import PackInputs, RandomCrop, RandomFlip
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor

from r2kd_mm.datasets import LoadImageFromFile, TinyImageNet

# ImageNet's mean and standard deviation, RGB, in units of 0 to 255
data_preprocessor = dict(
    type=ClsDataPreprocessor, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)

train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=RandomCrop, crop_size=64, padding=8),
    dict(type=RandomFlip, prob=0.5, direction='horizontal'),
    dict(type=PackInputs),
]
val_pipeline = [dict(type=LoadImageFromFile), dict(type=PackInputs)]

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=TinyImageNet, data_root='data/tiny_imagenet', split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=TinyImageNet, data_root='data/tiny_imagenet', split='val', pipeline=val_pipeline, test_mode=True),
)
val_evaluator = dict(type=Accuracy, topk=(1, 5))

# the labels of Tiny-ImageNet's test images are not public: the validation split is the test split
test_dataloader = val_dataloader
test_evaluator = val_evaluator
