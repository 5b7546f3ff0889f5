"""The flagship config of each data set trains two iterations and validates on the miniature of that data set."""

import converters
import pytest
import toolbox
import torch

from r2kd_mm.zoo import build_classifier, revert_state_dict

CLASSES = converters.CLASSES
SMALL = {  # 224 pixels are slow without a GPU
    'train_dataloader.dataset.pipeline.1.scale': 64,
    'val_dataloader.dataset.pipeline.1.scale': 64,
    'val_dataloader.dataset.pipeline.2.crop_size': 64,
}
FLAGSHIPS = {
    'cifar100': ('res56_res20_cifar100', 'num_classes', {}),
    'tiny_imagenet': ('vgg13_mv2_tiny-imagenet', 'num_classes', {}),
    'cub200': ('res34_res18_cub200', 'head.num_classes', SMALL),
    'stanford_dogs': ('res34_res18_stanford-dogs', 'head.num_classes', SMALL),
    'mit67': ('res34_res18_mit67', 'head.num_classes', SMALL),
    'stanford40': ('res34_res18_stanford40', 'head.num_classes', SMALL),
}


def train(name, tmp_path, **more):
    leaf, size, options = FLAGSHIPS[name]
    data = converters.make_mini(name, tmp_path / 'data')
    options = {
        'train_dataloader.dataset.data_root': data,
        'val_dataloader.dataset.data_root': data,
        f'model.architecture.{size}': CLASSES,
        f'model.teacher.{size}': CLASSES,
        'train_dataloader.batch_size': CLASSES * converters.TRAIN // 2,
        'train_dataloader.num_workers': 0,
        'val_dataloader.num_workers': 0,
        'train_cfg.max_epochs': 1,
        'val_evaluator.topk': '(1,)',  # there are no 5 classes
        'optim_wrapper.optimizer.lr': 0.001,
        'model.allow_untrained_teacher': True,
        **options,
        **more,
    }
    arguments = [f'{key}={value}' for key, value in options.items()]
    config = toolbox.ROOT / f'configs/r2kd/r2kd_{leaf}.py'
    return toolbox.run_forked('train.py', config, '--work-dir', tmp_path / 'work', '--cfg-options', *arguments)


@pytest.mark.parametrize(
    'name', ['cifar100', *(pytest.param(name, marks=pytest.mark.slow) for name in list(FLAGSHIPS)[2:])]
)
def test_trains_and_validates(name, tmp_path):
    done = train(name, tmp_path, **{'model.teacher_ckpt': None})
    assert done.returncode == 0, done.stderr
    state = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)
    assert state['meta']['iter'] == 2
    assert state['meta']['r2kd_mm']['train_data']['classes'] == CLASSES
    assert 'accuracy/top1' in done.stdout


@pytest.mark.slow
def test_learns_from_a_converted_public_teacher(tmp_path):
    public = tmp_path / 'vgg13_public.pth'
    teacher = build_classifier('tiny/vgg13', num_classes=CLASSES)
    torch.save({'model': revert_state_dict('tiny/vgg13', teacher.state_dict(), CLASSES)}, public)
    converted = tmp_path / 'vgg13.pth'
    arguments = ('tiny/vgg13', public, converted, '--num-classes', str(CLASSES))
    assert toolbox.run_forked('model_converters/convert_zoo_checkpoint.py', *arguments).returncode == 0

    done = train('tiny_imagenet', tmp_path, **{'model.teacher_ckpt': converted})
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)['meta']['iter'] == 2
