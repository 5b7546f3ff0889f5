"""CUB200 gives the samples of mmpretrain's class, and refuses image lists that disagree."""

import mmpretrain.datasets
import pytest

from r2kd_mm.datasets import CUB200


@pytest.mark.parametrize('split', ['train', 'test'])
def test_samples_and_labels_equal_mmpretrain(mini, split):
    ours = CUB200(str(mini('cub200')), split)
    theirs = mmpretrain.datasets.CUB(data_root=str(mini('cub200')), split=split)
    assert ours.find_samples() == theirs.load_data_list()


def test_names_follow_the_numbers_of_classes_txt(own_mini):
    root = own_mini('cub200')
    lines = (root / 'classes.txt').read_text().splitlines()
    (root / 'classes.txt').write_text('\n'.join(lines[::-1]))
    assert CUB200(str(root), 'train').metainfo['classes'] == ('Bird_1', 'Bird_2', 'Bird_3', 'Bird_4')


def test_lists_of_different_images_are_refused(own_mini):
    root = own_mini('cub200')
    lines = (root / 'train_test_split.txt').read_text().splitlines()
    (root / 'train_test_split.txt').write_text('\n'.join(lines[:-1]))
    with pytest.raises(ValueError, match='must list the same images, got 20, 20 and 19'):
        CUB200(str(root), 'train')


def test_a_class_without_a_name_is_refused(own_mini):
    root = own_mini('cub200')
    (root / 'classes.txt').write_text('1 001.Bird_1\n2 002.Bird_2\n3 003.Bird_3\n')
    with pytest.raises(ValueError, match='image_class_labels.txt has class 4, which classes.txt does not name'):
        CUB200(str(root), 'train')
