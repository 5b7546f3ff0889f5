custom_hooks = [
    dict(type='r2kd_mm.hooks.DataCheckHook'),
    dict(type='r2kd_mm.hooks.RunRecordHook'),
    dict(type='r2kd_mm.hooks.ReplayHook'),
    dict(type='r2kd_mm.hooks.FiniteCheckHook'),
    dict(type='r2kd_mm.hooks.TeacherCheckHook'),
]
data_preprocessor = dict(
    mean=[
        77.9,
    ], std=[
        95.9,
    ], type='mmpretrain.models.ClsDataPreprocessor')
default_hooks = dict(
    checkpoint=dict(
        interval=4,
        max_keep_ckpts=2,
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
experiment_name = 'my_distillation, seed 1'
launcher = 'none'
max_epochs = 30
model = dict(
    architecture=dict(
        backbone=dict(
            base_channels=4,
            depth=18,
            dilations=(
                1,
                1,
            ),
            in_channels=1,
            num_stages=2,
            out_indices=(1, ),
            stem_channels=4,
            strides=(
                1,
                2,
            ),
            type='mmpretrain.models.ResNet_CIFAR',
            zero_init_residual=False),
        head=dict(
            in_channels=8,
            num_classes=10,
            type='mmpretrain.models.LinearClsHead'),
        neck=dict(type='mmpretrain.models.GlobalAveragePooling'),
        type='mmpretrain.models.ImageClassifier'),
    augmentation=dict(
        alpha=1.0, per_image=True, type='r2kd_mm.augmentations.CutMix'),
    losses=dict(
        loss_rank=dict(
            loss_weight=2.0, type='r2kd_mm.losses.RankDistanceLoss'),
        loss_value=dict(
            loss_weight=2.0,
            temperature=4.0,
            type='r2kd_mm.losses.CorrelationDistanceLoss')),
    pruner=dict(amount=0.1, type='r2kd_mm.pruning.MagnitudePruner'),
    replay=dict(folder='compare/store'),
    teacher=dict(
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
            in_channels=12,
            num_classes=10,
            type='mmpretrain.models.LinearClsHead'),
        neck=dict(type='mmpretrain.models.GlobalAveragePooling'),
        type='mmpretrain.models.ImageClassifier'),
    teacher_ckpt='teacher/epoch_30.pth',
    type='r2kd_mm.distillers.R2KD')
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
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(lr=0.1, momentum=0.9, type='torch.optim.SGD'),
    type='mmengine.optim.OptimWrapper')
param_scheduler = [
    dict(
        T_max=8,
        by_epoch=True,
        convert_to_iter_based=True,
        type='mmengine.optim.CosineAnnealingLR'),
]
pipeline = [
    dict(type='mmpretrain.datasets.PackInputs'),
]
randomness = dict(seed=1)
resume = False
student = dict(
    backbone=dict(
        base_channels=4,
        depth=18,
        dilations=(
            1,
            1,
        ),
        in_channels=1,
        num_stages=2,
        out_indices=(1, ),
        stem_channels=4,
        strides=(
            1,
            2,
        ),
        type='mmpretrain.models.ResNet_CIFAR',
        zero_init_residual=False),
    head=dict(
        in_channels=8, num_classes=10, type='mmpretrain.models.LinearClsHead'),
    neck=dict(type='mmpretrain.models.GlobalAveragePooling'),
    type='mmpretrain.models.ImageClassifier')
train_cfg = dict(
    cycle=2,
    max_epochs=8,
    type='r2kd_mm.engine.ResumableTrainLoop',
    val_interval=4)
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
    sampler=dict(shuffle=True, type='r2kd_mm.engine.PairedSampler'))
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
work_dir = 'compare/runs/my_distillation/seed_1'
