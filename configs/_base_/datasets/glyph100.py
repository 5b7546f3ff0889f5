# Glyph-100 at 32 x 32. The first run draws the images. All get the same contrast, then a crop from a border of 4 grey
# pixels. There is no flip: a mirrored И is an N.
from mmengine.dataset import DefaultSampler, default_collate
from mmpretrain.datasets import PackInputs, RandomCrop
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor

from r2kd_mm.datasets import Glyph100, NormalizeContrast

# mean and standard deviation of all pixels of the 20,000 training images after the contrast is normalised; RGB,
# in units of 0 to 255
data_preprocessor = dict(type=ClsDataPreprocessor, mean=[127.5] * 3, std=[47.1] * 3, to_rgb=False)

# without it, narrow networks stay at chance level for hundreds of steps: docs/evidence.md
contrast = dict(type=NormalizeContrast)
train_pipeline = [contrast, dict(type=RandomCrop, crop_size=32, padding=4, pad_val=128), dict(type=PackInputs)]
val_pipeline = [contrast, dict(type=PackInputs)]

train_dataloader = dict(
    batch_size=64,
    num_workers=2,  # a sample costs about 40 us
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=Glyph100, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=Glyph100, split='val', pipeline=val_pipeline, test_mode=True),
)
val_evaluator = dict(type=Accuracy, topk=(1, 5))

# unseen fonts: --cfg-options test_dataloader.dataset.split=shifted
test_dataloader = dict(val_dataloader, dataset=dict(type=Glyph100, split='test', pipeline=val_pipeline, test_mode=True))
test_evaluator = val_evaluator
