# The 8x8 digits of scikit-learn with few labels: 30 images of each digit train, the other 1497 evaluate.
from mmengine.dataset import DefaultSampler, default_collate
from mmpretrain.datasets import PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor

from r2kd_mm.datasets import Digits

# mean and standard deviation of all pixels, in units of 0 to 255
data_preprocessor = dict(type=ClsDataPreprocessor, mean=[77.9], std=[95.9])

pipeline = [dict(type=PackInputs)]

train_dataloader = dict(
    batch_size=60,  # 300 images = 5 batches
    num_workers=0,  # loading a sample is cheaper than passing it between processes
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=Digits, split='train', train_size=300, pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=Digits, split='test', train_size=300, pipeline=pipeline, test_mode=True),
)
val_evaluator = dict(type=Accuracy, topk=(1,))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
