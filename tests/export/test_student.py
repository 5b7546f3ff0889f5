"""The student is read from a checkpoint; a checkpoint that does not fit is refused."""

import json

import cv2
import exports
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.datasets import PackInputs
from toolbox import ROOT

from r2kd_mm.compat import MisnamedClasses
from r2kd_mm.datasets.image_folder import EXTENSIONS
from r2kd_mm.engine.wrapped_data import short_types
from r2kd_mm.export import load_student
from r2kd_mm.export.preprocessing import Preprocessing, list_images
from r2kd_mm.registry import DATASETS, MODELS


def edit(path, **fields):
    """Change fields of a checkpoint's meta."""
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['meta'].update(fields)
    torch.save(checkpoint, path)


@pytest.mark.parametrize('config', [exports.DISTILLED_DIGITS, 'supervised/res6_digits.py'])
def test_a_student_and_a_classifier_that_had_no_teacher_are_read_alike(config, tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth', config)
    student = load_student(checkpoint)
    saved = {
        name.removeprefix('architecture.'): value
        for name, value in torch.load(checkpoint, weights_only=False)['state_dict'].items()
    }
    given = student.network.classifier.state_dict()
    assert given.keys() == saved.keys()
    assert all(torch.equal(given[name], value) for name, value in saved.items())
    assert student.config['backbone']['type'] == 'ResNet_CIFAR'
    assert student.classes == tuple('0123456789')
    assert not student.network.training


def test_the_images_are_validation_images_normalised_as_in_the_run(tmp_path):
    student = load_student(exports.write_checkpoint(tmp_path / 'student.pth'))
    cfg = Config.fromfile(ROOT / 'configs' / exports.DISTILLED_DIGITS)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        normalise = MODELS.build(cfg.data_preprocessor)
    indices = [0, 213, 427, 641, 854, 1068, 1282, 1496]  # 8 at equal distances of 1497
    inputs = torch.stack([dataset[index]['inputs'] for index in indices])
    assert torch.equal(student.images, normalise(dict(inputs=inputs))['inputs'])


def test_a_normalisation_in_the_architecture_is_exported(tmp_path):
    whole = load_student(exports.write_checkpoint(tmp_path / 'whole.pth'))
    stated = dict(type='ClsDataPreprocessor', mean=[77.9], std=[95.9])
    changes = {'data_preprocessor': None, 'model.architecture.data_preprocessor': stated}
    inside = load_student(exports.write_checkpoint(tmp_path / 'inside.pth', **changes))
    assert (inside.preprocessing.mean, inside.preprocessing.std) == ((77.9,), (95.9,))
    assert torch.equal(inside.images, whole.images)


def test_the_config_in_a_checkpoint_is_not_run(tmp_path):
    checkpoint, trace = exports.write_checkpoint(tmp_path / 'student.pth'), tmp_path / 'trace'
    text = torch.load(checkpoint, weights_only=False)['meta']['cfg']
    edit(checkpoint, cfg=f'{text}\nimport pathlib\npathlib.Path({str(trace)!r}).touch()\n')
    load_student(checkpoint)
    edit(checkpoint, cfg=f"model = dict(type='pathlib.Path.touch', self={str(trace)!r})")
    with pytest.raises(ValueError, match="it builds 'pathlib.Path.touch', which is no network"):
        load_student(checkpoint)
    assert not trace.exists()


def test_a_checkpoint_without_config_needs_one(tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth')
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=torch.load(checkpoint, weights_only=False)['state_dict']), weights)
    with pytest.raises(ValueError, match='is not one of a run: it has no config.*--config'):
        load_student(weights)
    student = load_student(weights, config=ROOT / 'configs' / exports.DISTILLED_DIGITS)
    assert torch.equal(student.logits(), load_student(checkpoint).logits())


def test_weights_of_another_network_are_refused(tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth')
    with pytest.raises(ValueError, match='does not fit this ImageClassifier'):
        load_student(checkpoint, config=ROOT / 'configs/supervised/res14_digits.py')


def test_data_that_are_not_here_are_asked_for(tmp_path):
    checkpoint = exports.write_checkpoint(
        tmp_path / 'student.pth',
        'supervised/res20_cifar100.py',
        **{'val_dataloader.dataset.data_root': str(tmp_path / 'no data')},
    )
    with pytest.raises(FileNotFoundError, match='validation data of the run are not here .*--images'):
        load_student(checkpoint)
    exports.write_photos(tmp_path / 'photos')
    student = load_student(checkpoint, images=tmp_path / 'photos')
    assert student.images.shape == (6, 3, 32, 32)  # three images twice, in the size of the crops of training
    assert student.preprocessing.channel_order == 'RGB'
    assert len(student.classes) == 100


def folder_run(folder, pipeline, wrap=lambda dataset: dataset, **changes):
    """A checkpoint of a run on colour photos in class folders."""
    for split in ('train', 'val'):
        exports.write_photos(folder / 'data' / split / 'a', count=4)
    steps = [dict(type='LoadImageFromFile'), *pipeline, dict(type='PackInputs')]
    dataset = dict(type='ImageFolder', data_root=str(folder / 'data'), split='val', pipeline=steps)
    return exports.write_checkpoint(
        folder / 'student.pth',
        'supervised/res20_cifar100.py',
        **{'val_dataloader.dataset': dict(wrap(dataset), _delete_=True), **changes},
    )


CROP = [dict(type='ResizeEdge', scale=40, edge='short'), dict(type='CenterCrop', crop_size=(32, 32))]


WRAPPERS = dict(
    none=dict,
    fold=lambda dataset: dict(type='mmpretrain.datasets.KFoldDataset', dataset=dataset, num_splits=2),
    repeated=lambda dataset: dict(type='RepeatDataset', dataset=dataset, times=2),
    balanced=lambda dataset: dict(type='ClassBalancedDataset', dataset=dataset, oversample_thr=0.5),
    joined=lambda dataset: dict(type='mmengine.dataset.ConcatDataset', datasets=[dataset, dict(dataset)]),
    nested=lambda dataset: WRAPPERS['joined'](WRAPPERS['repeated'](WRAPPERS['fold'](dataset))),
)


@pytest.mark.parametrize(
    ('wrap', 'to_rgb'), [*((wrap, True) for wrap in WRAPPERS.values()), (WRAPPERS['joined'], False)]
)
def test_files_are_prepared_as_the_run_prepared_them(wrap, to_rgb, tmp_path):
    checkpoint = folder_run(tmp_path, CROP, wrap, **{'data_preprocessor.to_rgb': to_rgb})
    student = load_student(checkpoint)
    assert [step['type'] for step in student.preprocessing.transforms] == ['ResizeEdge', 'CenterCrop']
    assert student.preprocessing.channel_order == ('RGB' if to_rgb else 'BGR')
    described = json.loads(json.dumps(student.preprocessing.describe()))
    assert Preprocessing.read(student.preprocessing.shape, described) == student.preprocessing
    prepared = [student.preprocessing(path) for path in (tmp_path / 'data/val/a').iterdir()]
    assert all(any(torch.equal(one, image) for one in prepared) for image in student.images)
    # where the data of the run are not here
    assert load_student(checkpoint, images=tmp_path / 'data').preprocessing == student.preprocessing


def test_validation_sets_that_are_prepared_differently_are_refused(tmp_path):
    def with_another(dataset):
        pipeline = [step for step in dataset['pipeline'] if step['type'] != 'CenterCrop']
        return dict(type='ConcatDataset', datasets=[dataset, dict(dataset, pipeline=pipeline)])

    checkpoint = folder_run(tmp_path, CROP, with_another)
    message = r'data sets of val_dataloader do not prepare their images alike: number 0 \(ImageFolder\) by .*CenterCrop'
    for images in (None, tmp_path / 'data'):
        with pytest.raises(ValueError, match=message):
            load_student(checkpoint, images=images)


def test_the_size_comes_from_the_training_crops_in_any_wrapper(tmp_path):
    crop = [dict(type='LoadImageFromFile'), dict(type='RandomCrop', crop_size=24), dict(type='PackInputs')]
    member = dict(type='CIFAR100', data_root='none', pipeline=crop)
    joined = dict(type='ConcatDataset', datasets=[member, member], _delete_=True)
    checkpoint = folder_run(tmp_path, [], **{'train_dataloader.dataset': joined})
    assert load_student(checkpoint, images=tmp_path / 'data').images.shape[1:] == (3, 24, 24)


def test_a_data_preprocessor_that_does_more_than_normalise_is_refused(tmp_path):
    checkpoint = folder_run(tmp_path, CROP, **{'data_preprocessor.pad_size_divisor': 64})
    with pytest.raises(ValueError, match="ClsDataPreprocessor' of the run does more .* such as padding"):
        load_student(checkpoint)


def test_the_channels_of_another_data_preprocessor_are_in_its_order(tmp_path):
    of_mmengine = dict(type='ImgDataPreprocessor', mean=[10, 20, 30], std=[2, 4, 8], bgr_to_rgb=True, _delete_=True)
    student = load_student(folder_run(tmp_path, CROP, **{'data_preprocessor': of_mmengine}))
    assert student.preprocessing.channel_order == 'RGB'
    assert torch.equal(student.preprocessing(tmp_path / 'data/val/a/0.png'), student.images[0])


def test_a_preparation_that_cannot_be_repeated_is_refused(tmp_path):
    checkpoint = folder_run(tmp_path, [dict(type='RandomCrop', crop_size=16)])
    with pytest.raises(ValueError, match='would prepare .*png. differently from .* of 255 off .* after RandomCrop'):
        load_student(checkpoint)


def test_images_of_several_sizes_do_not_say_what_the_network_takes(tmp_path):
    checkpoint = folder_run(tmp_path, [], **{'train_dataloader.dataset.pipeline': []})
    exports.write_photos(tmp_path / 'photos')
    assert load_student(checkpoint, images=tmp_path / 'photos').images.shape[2:] == (48, 64)
    cv2.imwrite(str(tmp_path / 'photos/other.png'), np.zeros((30, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=r'--images have \(30, 20\) and \(48, 64\) pixels'):
        load_student(checkpoint, images=tmp_path / 'photos')


def named_run(folder, classes, known=None):
    """A checkpoint of a run on folders a and b whose classes are called so, and so in the checkpoint."""
    for name in 'ab':
        exports.write_photos(folder / 'data/val' / name)
    steps = [dict(type='LoadImageFromFile'), *CROP, dict(type='PackInputs')]
    dataset = dict(type='CustomDataset', data_root=str(folder / 'data/val'), classes=classes, pipeline=steps)
    changes = {'val_dataloader.dataset': dict(dataset, _delete_=True), 'model.num_classes': 2}
    checkpoint = exports.write_checkpoint(folder / 'student.pth', 'supervised/res20_cifar100.py', **changes)
    edit(checkpoint, dataset_meta=dict(classes=known))
    return checkpoint


def test_classes_that_are_not_in_the_order_of_the_folders_are_refused(tmp_path):
    with pytest.raises(MisnamedClasses, match=r"label 0 is the folder 'a', .* calls it 'b'; give classes=\['a', 'b'\]"):
        load_student(named_run(tmp_path, ['b', 'a'], ['b', 'a']))


def test_class_names_of_checkpoint_and_data_must_agree(tmp_path):
    checkpoint = named_run(tmp_path, ['a', 'b'], ['b', 'a'])
    with pytest.raises(ValueError, match="number 0 is 'b' in the first and 'a' in the second; .* by --config"):
        load_student(checkpoint)
    (tmp_path / 'config.py').write_text(torch.load(checkpoint, weights_only=False)['meta']['cfg'])
    assert load_student(checkpoint, config=tmp_path / 'config.py').classes == ('a', 'b')


@pytest.mark.parametrize(('to_rgb', 'order'), [(True, 'BGR'), (False, 'RGB')])
def test_images_in_memory_are_rgb_unless_the_run_flips_them(to_rgb, order, tmp_path):
    digits = dict(type='Digits', split='test', channels=3, pipeline=[dict(type='PackInputs')], _delete_=True)
    checkpoint = exports.write_checkpoint(
        tmp_path / 'student.pth',
        'supervised/res20_cifar100.py',
        **{'val_dataloader.dataset': digits, 'data_preprocessor.to_rgb': to_rgb},
    )
    assert load_student(checkpoint).preprocessing.channel_order == order


@pytest.mark.parametrize(
    ('given', 'short'),
    [
        ('mmpretrain.datasets.transforms.processing.CenterCrop', 'CenterCrop'),
        (PackInputs, 'PackInputs'),
        ('CenterCrop', 'CenterCrop'),
        ('my_data.MyCrop', 'my_data.MyCrop'),
    ],
)
def test_types_go_by_the_shortest_path_that_finds_them(given, short):
    assert short_types([dict(type=given)]) == [dict(type=short)]


def test_images_are_found_by_the_endings_that_training_takes(tmp_path):
    for ending in EXTENSIONS:
        (tmp_path / f'a{ending}').touch()
    assert [path.suffix for path in list_images(tmp_path)] == sorted(EXTENSIONS)


def test_a_run_without_data_asks_for_its_config(tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth')
    edit(checkpoint, cfg=f"model = dict(architecture={load_student(checkpoint).config!r}, type='R2KD')")
    with pytest.raises(ValueError, match='has no data loader, so nobody knows how .* by --config'):
        load_student(checkpoint, images=exports.write_digits(tmp_path / 'digits')[0])


def test_images_that_the_network_cannot_take_are_named_by_their_shape(tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth', **{'val_dataloader.dataset.channels': 3})
    with pytest.raises(ValueError, match=r'cannot take images of shape \(3, 8, 8\).*--images'):
        load_student(checkpoint)
