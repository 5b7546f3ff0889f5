"""Every public image set is read if it is complete; if not, the error names the command that fixes it."""

import shutil
from pathlib import Path

import pytest
from converters import CLASSES, TRAIN, VAL

from r2kd_mm.datasets import CIFAR100, CUB200, MIT67, Stanford40, StanfordDogs, TinyImageNet
from r2kd_mm.datasets.image_set import missing_files, read_lines
from r2kd_mm.published import PUBLISHED
from r2kd_mm.registry import DATASETS

IMAGE_SETS = [CIFAR100, CUB200, MIT67, Stanford40, StanfordDogs, TinyImageNet]
OF_FILES = [dataset for dataset in IMAGE_SETS if dataset is not CIFAR100]

every_set = pytest.mark.parametrize('dataset', IMAGE_SETS)
every_set_of_files = pytest.mark.parametrize('dataset', OF_FILES)


def splits(dataset: type) -> list[str]:
    return list(PUBLISHED[dataset.key].contents.images)


@every_set
def test_a_whole_set_is_read_by_its_registered_name(dataset, mini):
    for split, per_class in zip(splits(dataset), (TRAIN, VAL)):
        built = DATASETS.build(dict(type=dataset.__name__, data_root=str(mini(dataset.key)), split=split))
        assert isinstance(built, dataset)
        assert len(built.metainfo['classes']) == CLASSES
        assert sorted(built.get_gt_labels()) == sorted(per_class * list(range(CLASSES)))


@every_set
def test_both_splits_name_the_same_classes_and_share_no_image(dataset, mini):
    train, val = (dataset(str(mini(dataset.key)), split) for split in splits(dataset))
    assert train.metainfo['classes'] == val.metainfo['classes']
    images = [
        {info['img'].tobytes() if 'img' in info else Path(info['img_path']).read_bytes() for info in found}
        for found in (train.find_samples(), val.find_samples())
    ]
    assert not images[0] & images[1]


@every_set
def test_a_missing_folder_is_named_with_the_command_that_makes_it(dataset, tmp_path):
    published = PUBLISHED[dataset.key]
    with pytest.raises(FileNotFoundError) as error:
        dataset(str(tmp_path / 'gone'), 'train')
    message = str(error.value)
    assert message.startswith(
        f"{published.title} in '{tmp_path}/gone': there is no such folder. Get {published.archives[0]}"
    )
    assert message.endswith(f'prepare_{dataset.key}.py FOLDER_OF_THE_DOWNLOADS {tmp_path}/gone')


@every_set
def test_the_error_names_the_missing_part_and_the_found_files(dataset, own_mini):
    root = own_mini(dataset.key)
    part = root / dataset.required[0]
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    with pytest.raises(FileNotFoundError, match=f'found .*contents.json.*, but not {dataset.required[0]}') as error:
        dataset(str(root), 'train')
    assert f'prepare_{dataset.key}.py' in str(error.value)


@every_set_of_files
def test_a_missing_image_is_noticed(dataset, own_mini):
    root = own_mini(dataset.key)
    split = splits(dataset)[1]
    path = Path(dataset(str(root), split).find_samples()[0]['img_path'])
    path.unlink()
    expected = f"1 of the {CLASSES * VAL} {split} images are missing, such as '{path.relative_to(root)}'"
    with pytest.raises(FileNotFoundError, match=expected):
        dataset(str(root), split)


@every_set_of_files
def test_numbers_other_than_the_published_ones_have_to_be_stated(dataset, own_mini):
    root = own_mini(dataset.key)
    (root / 'contents.json').unlink()
    published = PUBLISHED[dataset.key].contents
    expected = f'found 4 classes and 12 train images, expected {published.classes} and {published.images["train"]} '
    with pytest.raises(ValueError, match=expected):
        dataset(str(root), 'train')


@every_set
def test_an_unknown_split_is_refused(dataset, mini):
    with pytest.raises(ValueError, match=rf"split of {dataset.__name__} must be one of \('train', .*, got 'dev'"):
        dataset(str(mini(dataset.key)), 'dev')


@every_set
def test_an_unknown_argument_is_refused(dataset, mini):
    with pytest.raises(TypeError, match='download'):
        dataset(str(mini(dataset.key)), 'train', download=True)


def test_lazy_init_reads_nothing(tmp_path):
    CUB200(str(tmp_path / 'gone'), 'train', lazy_init=True)


def test_missing_files_are_found_in_their_order(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/1').touch()
    paths = [str(tmp_path / name) for name in ('a/0', 'a/1', 'b/0', 'a/2')]
    assert missing_files(paths) == [paths[0], paths[2], paths[3]]


def test_a_short_line_is_shown_with_its_number(tmp_path):
    (tmp_path / 'list.txt').write_text('1 a\n\n2\n')
    assert read_lines(tmp_path / 'list.txt', num_columns=1) == [['1', 'a'], ['2']]
    with pytest.raises(ValueError, match="line 3 of list.txt must have 2 columns, got '2'"):
        read_lines(tmp_path / 'list.txt', num_columns=2)
