"""Tiny-ImageNet in both public layouts has the labels on which the public teachers were trained."""

import shutil
from pathlib import Path

import pytest

from r2kd_mm.datasets import TinyImageNet

BOTH = pytest.mark.parametrize('layout', ['published', 'folders'])


def labels(root: Path, split: str) -> dict[str, int]:
    dataset = TinyImageNet(str(root), split)
    return {Path(info['img_path']).name: info['gt_label'] for info in map(dataset.get_data_info, range(len(dataset)))}


def test_a_missing_training_image_is_noticed(own_mini):
    root = own_mini('tiny_imagenet')
    next(root.glob('train/n00000002/images/*')).unlink()
    with pytest.raises(ValueError, match='found 4 classes and 11 train images, expected 4 and 12'):
        TinyImageNet(str(root), 'train')


@BOTH
def test_labels_follow_the_sorted_wordnet_ids_not_wnids_txt(mini, layout):
    root = mini('tiny_imagenet', '--layout', layout)
    wnids = (root / 'wnids.txt').read_text().split()
    assert wnids != sorted(wnids)
    assert TinyImageNet(str(root), 'val').metainfo['classes'] == tuple(sorted(wnids))
    assert labels(root, 'train')['n00000002_1.JPEG'] == 2
    annotated = (line.split('\t')[:2] for line in (root / 'val/val_annotations.txt').read_text().splitlines())
    assert labels(root, 'val') == {name: int(wnid.removeprefix('n')) for name, wnid in annotated}


def test_class_folders_may_hold_the_images_themselves(own_mini):
    root = own_mini('tiny_imagenet', '--layout', 'folders')
    expected = labels(root, 'val')
    for folder in root.glob('val/*/images'):
        for path in folder.iterdir():
            path.rename(folder.parent / path.name)
        folder.rmdir()
    assert labels(root, 'val') == expected


def test_what_a_script_that_rearranges_leaves_in_val_images_is_not_counted(own_mini):
    root = own_mini('tiny_imagenet', '--layout', 'folders')
    expected = labels(root, 'val')
    (root / 'val/images').mkdir()
    assert labels(root, 'val') == expected
    for path in root.glob('val/n*/images/*'):
        shutil.copy(path, root / 'val/images')
    assert labels(root, 'val') == expected


def test_a_validation_class_without_training_images_is_refused(own_mini):
    root = own_mini('tiny_imagenet')
    shutil.rmtree(root / 'train/n00000001')
    with pytest.raises(ValueError, match="1 classes of val have no folder in train, such as 'n00000001'"):
        TinyImageNet(str(root), 'val')


def test_images_without_labels_are_refused(own_mini):
    root = own_mini('tiny_imagenet')
    (root / 'val/val_annotations.txt').unlink()
    with pytest.raises(FileNotFoundError, match='val has no class folders, nor val_annotations.txt'):
        TinyImageNet(str(root), 'val')
