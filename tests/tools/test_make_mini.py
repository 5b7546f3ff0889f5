"""make_mini.py writes files that the data sets read, equal for equal seeds, and overwrites no other data."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from converters import contents
from make_mini import main as make_mini
from mini import FORMATS, Miniature
from PIL import Image
from scipy.io import loadmat

from r2kd_mm.datasets import CIFAR100, ImageFolder
from r2kd_mm.published import PUBLISHED

every_format = pytest.mark.parametrize('name', sorted(PUBLISHED))


def make(folder: Path, *options: str, name: str = 'imagenet') -> int:
    return make_mini([name, str(folder), '--classes', '3', '--train', '2', '--val', '2', *options])


def separability(images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of the nearest class mean of the colours, each image against the others."""
    colours = torch.from_numpy(images.reshape(len(images), -1, 3).astype(np.float64).mean(axis=1))
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels)).double()
    others = one_hot.sum(0) - one_hot
    means = (one_hot.T @ colours)[None] - one_hot[:, :, None] * colours[:, None]
    return ((means / others[..., None] - colours[:, None]).norm(dim=2).argmin(1).numpy() == labels).mean()


@pytest.mark.parametrize('layout', ['folders', 'annotations'])
def test_the_dataset_of_the_imagenet_config_reads_both_layouts(tmp_path, layout):
    assert make(tmp_path / 'mini', '--layout', layout) == 0
    for split in ('train', 'val'):
        dataset = ImageFolder(str(tmp_path / 'mini'), split)
        assert [dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))] == [0, 0, 1, 1, 2, 2]
        assert dataset.metainfo['classes'] == ('n00000000', 'n00000001', 'n00000002')


def test_the_annotations_of_imagenet_are_those_of_the_validation_archive(tmp_path):
    make(tmp_path / 'mini', '--layout', 'annotations')
    assert (tmp_path / 'mini/meta/val.txt').read_text().splitlines()[2] == 'ILSVRC2012_val_00000002.JPEG 1'
    assert len(list((tmp_path / 'mini/val').glob('*.JPEG'))) == 6


def test_the_annotations_of_tiny_imagenet_have_the_real_columns(tmp_path):
    make(tmp_path / 'mini', name='tiny_imagenet')
    name, wnid, *box = (tmp_path / 'mini/val/val_annotations.txt').read_text().splitlines()[0].split('\t')
    assert (name, wnid[0], len(wnid), box) == ('val_0.JPEG', 'n', 9, ['0', '0', '63', '63'])
    assert (
        (tmp_path / 'mini/train/n00000000/n00000000_boxes.txt')
        .read_text()
        .startswith('n00000000_0.JPEG\t0\t0\t63\t63\n')
    )
    assert {Image.open(path).size for path in (tmp_path / 'mini').rglob('*.JPEG')} == {(64, 64)}


@pytest.mark.parametrize(('encoding', 'text'), [('latin1', str), ('bytes', bytes)])
@pytest.mark.filterwarnings('ignore:dtype')  # NumPy 2.4 on the flags that Python 2 wrote
def test_cifar_reads_as_the_files_that_python_2_wrote(tmp_path, encoding, text):
    make(tmp_path / 'mini', name='cifar100')
    with (tmp_path / 'mini/cifar-100-python/train').open('rb') as file:
        batch = pickle.load(file, encoding=encoding)
    keys = ['filenames', 'batch_label', 'fine_labels', 'coarse_labels', 'data']
    assert list(batch) == [key if text is str else key.encode() for key in keys]
    filenames, label, fine, coarse, data = batch.values()
    assert isinstance(label, text)
    assert isinstance(filenames[0], text)
    assert sorted(fine) == [0, 0, 1, 1, 2, 2]
    assert coarse == [0] * 6
    assert (data.shape, data.dtype) == ((6, 3 * 32 * 32), np.uint8)


def test_the_dog_lists_have_the_shapes_of_the_real_ones(tmp_path):
    make(tmp_path / 'mini', name='stanford_dogs')
    lists = {split: loadmat(tmp_path / f'mini/{split}_list.mat') for split in ('train', 'test', 'file')}
    assert lists['train']['file_list'].shape == lists['train']['labels'].shape == (6, 1)
    assert lists['train']['file_list'][0, 0].item() == 'n00000000-Breed_0/n00000000_0.jpg'
    assert lists['train']['annotation_list'][0, 0].item() == 'n00000000-Breed_0/n00000000_0'
    assert lists['train']['labels'].ravel().tolist() == [1, 1, 2, 2, 3, 3]
    assert len(lists['file']['labels']) == 12


def test_the_actions_have_the_real_heading(tmp_path):
    make(tmp_path / 'mini', name='stanford40')
    lines = (tmp_path / 'mini/ImageSplits/actions.txt').read_text().splitlines()
    assert lines == ['action_name\tnumber_of_images', 'doing_00\t4', 'doing_01\t4', 'doing_02\t4']
    assert len((tmp_path / 'mini/ImageSplits/test.txt').read_text().split()) == 6


@every_format
@pytest.mark.parametrize('archive', [(), ('--archive',)])
def test_the_seed_decides_every_byte(name, archive, tmp_path, monkeypatch):
    for folder, seed, now in (('first', '1', 1e9), ('same', '1', 1.5e9), ('other', '2', 1e9)):
        monkeypatch.setattr('time.time', lambda now=now: now)
        monkeypatch.setattr('time.asctime', lambda now=now: f'{now}')
        make(tmp_path / folder, '--seed', seed, *archive, name=name)
    assert contents(tmp_path / 'first') == contents(tmp_path / 'same')
    assert contents(tmp_path / 'first') != contents(tmp_path / 'other')


def test_the_colour_tells_the_class(tmp_path):
    make(tmp_path / 'mini')
    for label, channel in enumerate(('red', 'green', 'blue')):  # three classes, three hues
        for path in (tmp_path / f'mini/train/n0000000{label}').iterdir():
            mean = np.asarray(Image.open(path)).mean(axis=(0, 1))
            assert mean.argmax() == label, (path, channel)


def test_ten_classes_can_be_learned(tmp_path):
    make_mini(['cifar100', str(tmp_path / 'mini'), '--train', '20'])
    dataset = CIFAR100(str(tmp_path / 'mini'), 'train')
    images = np.stack([dataset[index]['img'] for index in range(len(dataset))])
    assert separability(images, dataset.get_gt_labels()) > 0.5  # guessing gives 0.1


@every_format
def test_the_numbers_are_stated_beside_the_files(name, tmp_path, capsys):
    make(tmp_path / 'mini', '--archive', name=name)
    assert f'prepare_{name}.py {tmp_path}/mini DST --contents 3 6 6\n' in capsys.readouterr().out
    assert (tmp_path / 'mini/contents.json').read_text().startswith('{"classes": 3, "images": {"train": 6, "')
    assert {path.name for path in (tmp_path / 'mini').iterdir()} == {*PUBLISHED[name].archives, 'contents.json'}


def test_a_folder_in_use_is_left_alone(tmp_path, capsys):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train/thesis.tex').write_text('years of work')
    for options in ((), ('--force',)):
        assert make(tmp_path, *options) == 1
        assert 'is not an empty folder' in capsys.readouterr().err
        assert contents(tmp_path) == {'train/thesis.tex': b'years of work'}


def test_force_replaces_an_earlier_miniature_whole(tmp_path):
    make(tmp_path / 'mini', '--classes', '5')
    before = contents(tmp_path / 'mini')
    assert make(tmp_path / 'mini') == 1
    assert contents(tmp_path / 'mini') == before
    assert make(tmp_path / 'mini', '--force') == 0
    assert len(contents(tmp_path / 'mini')) == 3 * (2 + 2) + 1
    assert [path.name for path in tmp_path.iterdir()] == ['mini']


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit) as stop:
        make(tmp_path / 'file/mini')
    assert stop.value.code == 1
    message = f"error: folder '{tmp_path}/file' cannot be written (File exists); give another by the argument dst"
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(
    ('fault', 'message'),
    [(KeyboardInterrupt, 'interrupted; {dst} is as it was'), (OSError('the disk is full'), 'the disk is full')],
)
def test_what_ends_too_early_leaves_things_as_they_were(tmp_path, capsys, monkeypatch, fault, message):
    make(tmp_path / 'mini')
    before = contents(tmp_path)

    def write(folder: Path, mini: Miniature) -> None:
        (folder / 'half').touch()
        raise fault

    monkeypatch.setitem(FORMATS, 'imagenet', replace(FORMATS['imagenet'], write=write))
    with pytest.raises(SystemExit) as stop:
        make(tmp_path / 'mini', '--force')
    assert stop.value.code == 1
    assert f'error: {message.format(dst=tmp_path / "mini")}' in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(('name', 'options', 'message'), [
    ('imagenet', ('--classes', '0'), '--classes must be at least 1, got 0'),
    ('imagenet', ('--size', '-1'), '--size must be at least 1, got -1'),
    ('cifar100', ('--size', '64'), '--size of cifar100 is 32, got 64'),
    ('tiny_imagenet', ('--layout', 'flat'), '--layout of tiny_imagenet must be one of published, folders, got flat'),
    ('mit67', ('--layout', 'folders'), '--layout of mit67 must be one of published, got folders'),
])  # fmt: skip
def test_nonsense_is_a_usage_error(tmp_path, capsys, name, options, message):
    with pytest.raises(SystemExit) as stop:
        make(tmp_path / 'mini', *options, name=name)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
