"""MIT Indoor 67: the two lists define the split, and labels follow the alphabetical order of the classes."""

from pathlib import Path

import pytest

from r2kd_mm.datasets import MIT67


def test_labels_follow_the_alphabet_whatever_the_order_of_the_lists(mini):
    first = (mini('mit67') / 'TrainImages.txt').read_text().splitlines()[0]
    assert not first.startswith('room_00')
    dataset = MIT67(str(mini('mit67')), 'train')
    assert dataset.metainfo['classes'] == ('room_00', 'room_01', 'room_02', 'room_03')
    for info in map(dataset.get_data_info, range(len(dataset))):
        assert Path(info['img_path']).parent.name == f'room_{info["gt_label"]:02d}'


def test_images_outside_the_lists_are_left_out(mini):
    listed = len(MIT67(str(mini('mit67')), 'train')) + len(MIT67(str(mini('mit67')), 'test'))
    assert len(list(mini('mit67').glob('Images/*/*.jpg'))) == listed + 4


def test_a_line_without_a_class_is_refused(own_mini):
    root = own_mini('mit67')
    (root / 'TestImages.txt').write_text('view_0.jpg\n')
    with pytest.raises(ValueError, match="lines of TestImages.txt must read 'class/image.jpg', got 'view_0.jpg'"):
        MIT67(str(root), 'train')
