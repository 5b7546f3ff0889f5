"""An export preprocesses an image file exactly as the validation pipeline of the student does."""

import exports
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image
from toolbox import ROOT

from r2kd_mm.export import Preprocessing, load_student, preprocessing
from r2kd_mm.registry import MODELS, TRANSFORMS


@pytest.fixture
def photo(tmp_path):
    return exports.write_photos(tmp_path / 'photos', count=1)[0]


def test_it_is_the_validation_of_the_run(photo, tmp_path):
    config = 'supervised/res18_imagenet.py'
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth', config)
    student = load_student(checkpoint, images=photo.parent)
    cfg = Config.fromfile(ROOT / 'configs' / config)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        packed = Compose([TRANSFORMS.build(step) for step in cfg.val_dataloader.dataset.pipeline])(
            dict(img_path=str(photo))
        )
        expected = MODELS.build(cfg.data_preprocessor)(dict(inputs=packed['inputs'][None]))['inputs'][0]
    assert student.preprocessing.shape == expected.shape == (3, 224, 224)
    assert torch.equal(student.images[0], expected)


@pytest.mark.parametrize('order', ['RGB', 'BGR', 'GRAY'])
def test_channels_are_in_the_order_that_is_said(photo, order):
    rgb = np.asarray(Image.open(photo).convert('RGB'), dtype=np.float32).transpose(2, 0, 1)
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of ITU-R BT.601
    pixels = {'RGB': rgb, 'BGR': rgb[::-1], 'GRAY': np.tensordot(weights, rgb, 1)[None]}[order]
    channels = len(pixels)
    mean, std = (10.0, 20.0, 30.0)[:channels], (2.0, 4.0, 8.0)[:channels]
    result = Preprocessing((channels, 48, 64), order, mean, std, ())(photo)
    expected = (pixels - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    rounding = 0.51 / min(std) if order == 'GRAY' else 1e-5  # grey values are whole numbers
    np.testing.assert_allclose(result.numpy(), expected, atol=rounding)


def test_a_size_that_the_network_does_not_take_is_refused(photo):
    with pytest.raises(ValueError, match=r'has \(48, 64\) pixels .* the network takes \(32, 32\)'):
        Preprocessing((3, 32, 32), 'RGB', (0.0,) * 3, (1.0,) * 3, ())(photo)


def test_a_channel_order_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="that of 1 channels, got 'RGB'"):
        Preprocessing((1, 8, 8), 'RGB', (0.0,), (1.0,), ())


@pytest.mark.parametrize('config', ['supervised/res20_cifar100.py', 'supervised/res20_tiny-imagenet.py'])
def test_files_of_any_size_fit_where_the_data_have_one_size(config, tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth', config)
    size = {'cifar100': 32, 'tiny-imagenet': 64}[config.removesuffix('.py').split('_')[1]]
    exports.write_photos(tmp_path / 'photos')
    other = exports.write_photos(tmp_path / 'other', count=1, height=20, width=90)[0]
    preprocessing = load_student(checkpoint, images=tmp_path / 'photos').preprocessing
    assert preprocessing(other).shape == preprocessing.shape == (3, size, size)
    same = exports.write_photos(tmp_path / 'same', count=1, height=size, width=size)[0]
    pixels = np.asarray(Image.open(same), dtype=np.float32).transpose(2, 0, 1)  # untouched, and RGB
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (preprocessing.mean, preprocessing.std))
    np.testing.assert_allclose(preprocessing(same).numpy(), (pixels - mean) / std, atol=1e-5)


def test_a_file_of_the_validation_data_becomes_what_the_data_set_gives(tmp_path):
    (tmp_path / 'val').mkdir()
    first, *_ = exports.write_photos(tmp_path / 'val/cat')
    exports.write_photos(tmp_path / 'val/dog')
    changes = {'val_dataloader.dataset.data_root': str(tmp_path)}
    student = load_student(exports.write_checkpoint(tmp_path / 'a.pth', 'supervised/res18_imagenet.py', **changes))
    assert torch.equal(student.preprocessing(first), student.images[0])
    assert student.preprocessing.channel_order == 'RGB'


def test_the_usual_transforms_equal_those_of_the_registry():
    found = {name: TRANSFORMS.get(name) for name in preprocessing.USUAL}
    assert found.pop('ResizeEdge').__module__.startswith('mmpretrain.')
    assert found == {name: usual for name, usual in preprocessing.USUAL.items() if name != 'ResizeEdge'}


@pytest.mark.parametrize('size', [(40, 64), (64, 40), (50, 50)], ids=str)
@pytest.mark.parametrize('edge', ['short', 'long', 'width', 'height'])
def test_an_edge_is_resized_as_by_mmpretrain(edge, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for options in (dict(), dict(backend='pillow'), dict(interpolation='bicubic')):
        steps = [
            kind(scale=30, edge=edge, **options) for kind in (TRANSFORMS.get('ResizeEdge'), preprocessing.ResizeEdge)
        ]
        expected, given = (step(dict(img=image))['img'] for step in steps)
        np.testing.assert_array_equal(given, expected)


def test_an_edge_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="edge must be one of short, long, width, height, got 'left'"):
        preprocessing.ResizeEdge(30, edge='left')
