# Stanford 40 Actions at 224 x 224, with ImageNet's transforms and normalisation, which suit the pretrained networks.
from mmengine.config import read_base

with read_base():
    from .imagenet import *

from r2kd_mm.datasets import Stanford40

train_dataloader.update(
    batch_size=64, dataset=dict(type=Stanford40, data_root='data/stanford40', split='train', pipeline=train_pipeline)
)
val_dataloader.update(
    batch_size=64,
    dataset=dict(type=Stanford40, data_root='data/stanford40', split='test', pipeline=val_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
