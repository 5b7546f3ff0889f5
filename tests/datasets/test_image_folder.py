"""ImageFolder reads ImageNet's two layouts and says what is wrong with a folder."""

from pathlib import Path

import pytest
from PIL import Image

from r2kd_mm.datasets import ImageFolder


def write_images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(root / name, 'JPEG')
    return root


def labels(dataset: ImageFolder) -> dict[str, int]:
    """File name to label."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return {Path(info['img_path']).name: info['gt_label'] for info in infos}


def test_labels_follow_the_sorted_class_folders(tmp_path):
    write_images(tmp_path, 'train/n2/b.JPEG', 'train/n1/a.JPEG', 'train/n1/deeper/c.jpg', 'train/n3/d.png')
    dataset = ImageFolder(str(tmp_path), 'train')
    assert labels(dataset) == {'a.JPEG': 0, 'c.jpg': 0, 'b.JPEG': 1, 'd.png': 2}
    assert dataset.metainfo['classes'] == ('n1', 'n2', 'n3')


def test_a_class_missing_from_validation_shifts_no_label(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n2/b.JPEG', 'train/n3/c.JPEG', 'val/n3/x.JPEG')
    dataset = ImageFolder(str(tmp_path), 'val')
    assert labels(dataset) == {'x.JPEG': 2}
    assert len(dataset.metainfo['classes']) == 3


def test_a_split_without_training_folders_counts_its_own_classes(tmp_path):
    write_images(tmp_path, 'val/n1/a.JPEG', 'val/n2/b.JPEG')
    assert labels(ImageFolder(str(tmp_path), 'val')) == {'a.JPEG': 0, 'b.JPEG': 1}


def test_an_annotation_file_gives_the_labels_of_flat_images(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n2/b.JPEG', 'val/x.JPEG', 'val/y z.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text('x.JPEG 1\ny z.JPEG 0\n')
    dataset = ImageFolder(str(tmp_path), 'val')
    assert labels(dataset) == {'x.JPEG': 1, 'y z.JPEG': 0}
    assert dataset.metainfo['classes'] == ('n1', 'n2')


def test_annotations_alone_count_the_classes_by_the_highest_label(tmp_path):
    write_images(tmp_path, 'train/x.JPEG', 'train/y.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('x.JPEG 4\ny.JPEG 0\n')
    assert ImageFolder(str(tmp_path), 'train').metainfo['classes'] == ('0', '1', '2', '3', '4')


def test_a_missing_folder_is_named_with_the_layout_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no data folder '{tmp_path}/train': expected <data_root>/<split>/"):
        ImageFolder(str(tmp_path), 'train')


@pytest.mark.parametrize('content', ['train', 'train/n1'])
def test_a_folder_without_images_is_refused(tmp_path, content):
    (tmp_path / content).mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"no image in the data folder '{tmp_path}/train': expected"):
        ImageFolder(str(tmp_path), 'train')


def test_a_validation_class_that_was_not_trained_is_refused(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'val/n1/b.JPEG', 'val/n9/c.JPEG')
    with pytest.raises(ValueError, match="1 class folders that the training split lacks, such as 'n9'"):
        ImageFolder(str(tmp_path), 'val')


@pytest.mark.parametrize(
    ('line', 'error', 'message'),
    [
        ('x.JPEG', ValueError, "line 1 of .*val.txt' must read 'name.JPEG label', got 'x.JPEG'"),
        ('x.JPEG cat', ValueError, "got 'x.JPEG cat'"),
        ('gone.JPEG 0', FileNotFoundError, "names 'gone.JPEG', which is not in .*val'"),
    ],
)
def test_a_wrong_annotation_file_is_refused(tmp_path, line, error, message):
    write_images(tmp_path, 'val/x.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text(f'{line}\n')
    with pytest.raises(error, match=message):
        ImageFolder(str(tmp_path), 'val')
