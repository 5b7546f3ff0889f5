# CIFAR-100 at 32 x 32, the protocol of the CIFAR distillation zoo: crop from a border of 4 black pixels, and flip.
from mmengine.dataset import DefaultSampler, default_collate
from mmpretrain.datasets import PackInputs, RandomCrop, RandomFlip
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor

from r2kd_mm.datasets import CIFAR100

# mean and standard deviation with which the public teachers were trained; RGB, in units of 0 to 255
data_preprocessor = dict(
    type=ClsDataPreprocessor,
    mean=[0.5071 * 255, 0.4867 * 255, 0.4408 * 255],
    std=[0.2675 * 255, 0.2565 * 255, 0.2761 * 255],
    to_rgb=False,
)

train_pipeline = [
    dict(type=RandomCrop, crop_size=32, padding=4),
    dict(type=RandomFlip, prob=0.5, direction='horizontal'),
    dict(type=PackInputs),
]
val_pipeline = [dict(type=PackInputs)]

train_dataloader = dict(
    batch_size=64,
    num_workers=2,  # a sample costs about 40 us
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=CIFAR100, data_root='data/cifar100', split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=CIFAR100, data_root='data/cifar100', split='test', pipeline=val_pipeline, test_mode=True),
)
val_evaluator = dict(type=Accuracy, topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
