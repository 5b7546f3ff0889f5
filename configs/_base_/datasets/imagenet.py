# ImageNet-1k at 224 x 224: random resized crop and flip to train, the centre crop to evaluate.
from mmengine.dataset import DefaultSampler, default_collate
from mmpretrain.datasets import CenterCrop, PackInputs, RandomFlip, RandomResizedCrop, ResizeEdge
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor

from r2kd_mm.datasets import ImageFolder, LoadImageFromFile

# mean and standard deviation of the training pixels, RGB, in units of 0 to 255
data_preprocessor = dict(
    type=ClsDataPreprocessor, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)

train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=RandomResizedCrop, scale=224),
    dict(type=RandomFlip, prob=0.5, direction='horizontal'),
    dict(type=PackInputs),
]
val_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=ResizeEdge, scale=256, edge='short'),
    dict(type=CenterCrop, crop_size=224),
    dict(type=PackInputs),
]

train_dataloader = dict(
    batch_size=32,  # 8 GPUs * 32 = 256; with another number use --auto-scale-lr
    num_workers=5,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=default_collate),  # stacks in the workers: 0.2 ms a batch against 0.8 for pseudo_collate
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=ImageFolder, data_root='data/imagenet', split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=5,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=ImageFolder, data_root='data/imagenet', split='val', pipeline=val_pipeline, test_mode=True),
)
val_evaluator = dict(type=Accuracy, topk=(1, 5))

# ImageNet's test labels are not public: the validation split is the test split
test_dataloader = val_dataloader
test_evaluator = val_evaluator
