custom_hooks = [
    dict(type='r2kd_mm.hooks.DataCheckHook'),
    dict(type='r2kd_mm.hooks.RunRecordHook'),
]
data_preprocessor = dict(
    mean=[
        77.9,
    ], std=[
        95.9,
    ], type='mmpretrain.models.ClsDataPreprocessor')
default_hooks = dict(
    checkpoint=dict(
        interval=30,
        max_keep_ckpts=1,
        save_best=None,
        type='r2kd_mm.hooks.SafeCheckpointHook'),
    logger=dict(interval=5, type='mmengine.hooks.LoggerHook'),
    param_scheduler=dict(type='mmengine.hooks.ParamSchedulerHook'))
default_scope = 'r2kd_mm'
digits = dict(
    pipeline=[
        dict(type='mmpretrain.datasets.PackInputs'),
    ],
    split='train',
    train_size=300,
    type='r2kd_mm.datasets.Digits')
launcher = 'none'
max_epochs = 30
model = dict(
    backbone=dict(
        base_channels=6,
        depth=18,
        dilations=(
            1,
            1,
        ),
        in_channels=1,
        num_stages=2,
        out_indices=(1, ),
        stem_channels=6,
        strides=(
            1,
            2,
        ),
        type='mmpretrain.models.ResNet_CIFAR',
        zero_init_residual=False),
    head=dict(
        in_channels=12, num_classes=10,
        type='mmpretrain.models.LinearClsHead'),
    neck=dict(type='mmpretrain.models.GlobalAveragePooling'),
    type='mmpretrain.models.ImageClassifier')
network = dict(
    backbone=dict(
        base_channels=6,
        depth=18,
        dilations=(
            1,
            1,
        ),
        in_channels=1,
        num_stages=2,
        out_indices=(1, ),
        stem_channels=6,
        strides=(
            1,
            2,
        ),
        type='mmpretrain.models.ResNet_CIFAR',
        zero_init_residual=False),
    head=dict(
        in_channels=12, num_classes=10,
        type='mmpretrain.models.LinearClsHead'),
    neck=dict(type='mmpretrain.models.GlobalAveragePooling'),
    type='mmpretrain.models.ImageClassifier')
num_classes = 10
optim_wrapper = dict(
    optimizer=dict(lr=0.1, momentum=0.9, type='torch.optim.SGD'),
    type='mmengine.optim.OptimWrapper')
param_scheduler = [
    dict(
        T_max=30,
        by_epoch=True,
        convert_to_iter_based=True,
        type='mmengine.optim.CosineAnnealingLR'),
]
pipeline = [
    dict(type='mmpretrain.datasets.PackInputs'),
]
randomness = dict(seed=0)
resume = False
train_cfg = dict(
    max_epochs=30, type='r2kd_mm.engine.ResumableTrainLoop', val_interval=30)
train_dataloader = dict(
    batch_size=60,
    collate_fn=dict(type='mmengine.dataset.default_collate'),
    dataset=dict(
        pipeline=[
            dict(type='mmpretrain.datasets.PackInputs'),
        ],
        split='train',
        train_size=300,
        type='r2kd_mm.datasets.Digits'),
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    sampler=dict(shuffle=True, type='mmengine.dataset.DefaultSampler'))
val_cfg = dict(type='mmengine.runner.ValLoop')
val_dataloader = dict(
    batch_size=500,
    collate_fn=dict(type='mmengine.dataset.default_collate'),
    dataset=dict(
        pipeline=[
            dict(type='mmpretrain.datasets.PackInputs'),
        ],
        split='test',
        test_mode=True,
        train_size=300,
        type='r2kd_mm.datasets.Digits'),
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    sampler=dict(shuffle=False, type='mmengine.dataset.DefaultSampler'))
val_evaluator = dict(topk=(1, ), type='mmpretrain.evaluation.Accuracy')
visualizer = dict(
    type='mmengine.visualization.Visualizer',
    vis_backends=[
        dict(type='mmengine.visualization.LocalVisBackend'),
    ])
width = 6
work_dir = 'teacher'
