data_preprocessor = dict(
    mean=[
        77.9,
    ], std=[
        95.9,
    ], to_rgb=False, type='ClsDataPreprocessor')
default_scope = 'mmpretrain'
model = dict(
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
        type='ResNet_CIFAR',
        zero_init_residual=False),
    head=dict(in_channels=8, num_classes=10, type='LinearClsHead'),
    neck=dict(type='GlobalAveragePooling'),
    type='ImageClassifier')
test_dataloader = dict(
    batch_size=32,
    dataset=dict(
        classes=[
            '0',
            '1',
            '2',
            '3',
            '4',
            '5',
            '6',
            '7',
            '8',
            '9',
        ],
        data_root='data',
        pipeline=[
            dict(color_type='grayscale', type='LoadImageFromFile'),
            dict(scale=(
                8,
                8,
            ), type='Resize'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset',
        with_label=False),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
