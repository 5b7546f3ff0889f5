"""Stanford Dogs: the split and the labels come from the MATLAB lists."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from r2kd_mm.datasets import StanfordDogs


def write_list(path: Path, rows: list[tuple[str, int]]) -> None:
    names = np.array([[name] for name, _ in rows], dtype=object)
    savemat(path, dict(file_list=names, labels=np.array([[float(label)] for _, label in rows])))


def rows(root: Path, split: str, label_of: dict[str, int]) -> list[tuple[str, int]]:
    """All images of a class folder's first three for training, the others for the test, with other labels."""
    chosen = {'train': slice(3), 'test': slice(3, None)}[split]
    folders = sorted((root / 'Images').iterdir())
    return [
        (f'{folder.name}/{path.name}', label_of[folder.name[:9]])
        for folder in folders
        for path in sorted(folder.iterdir())[chosen]
    ]


def test_labels_come_from_the_lists_not_from_the_order_of_the_folders(own_mini):
    root = own_mini('stanford_dogs')
    label_of = {f'n{index:08d}': 4 - index for index in range(4)}
    for split in ('train', 'test'):
        write_list(root / f'{split}_list.mat', rows(root, split, label_of))
    dataset = StanfordDogs(str(root), 'test')
    expected = ('n00000003-Breed_3', 'n00000002-Breed_2', 'n00000001-Breed_1', 'n00000000-Breed_0')
    assert dataset.metainfo['classes'] == expected
    for info in map(dataset.get_data_info, range(len(dataset))):
        assert Path(info['img_path']).parent.name == expected[info['gt_label']]


@pytest.mark.parametrize('label_of', [
    {'n00000000': 0, 'n00000001': 1, 'n00000002': 2, 'n00000003': 3},
    {'n00000000': 1, 'n00000001': 2, 'n00000002': 3, 'n00000003': 5},
    {'n00000000': 1, 'n00000001': 2, 'n00000002': 3, 'n00000003': 3},
])  # fmt: skip
def test_labels_that_are_not_one_to_the_number_of_folders_are_refused(own_mini, label_of):
    root = own_mini('stanford_dogs')
    write_list(root / 'train_list.mat', rows(root, 'train', label_of))
    with pytest.raises(ValueError, match='each folder of images must have one label in both lists'):
        StanfordDogs(str(root), 'train')


@pytest.mark.parametrize('content', [b'', b'file_list', b'MATLAB 5.0 MAT-file' + 200 * b' '])
def test_a_list_that_is_no_matlab_file_is_refused(own_mini, content):
    root = own_mini('stanford_dogs')
    (root / 'test_list.mat').write_bytes(content)
    with pytest.raises(ValueError, match='test_list.mat is not a MATLAB file with file_list and labels'):
        StanfordDogs(str(root), 'train')


def test_a_matlab_file_without_the_lists_is_refused(own_mini):
    root = own_mini('stanford_dogs')
    savemat(root / 'test_list.mat', dict(train_data=np.zeros(3)))
    with pytest.raises(ValueError, match=r"file_list and labels \('file_list'\)"):
        StanfordDogs(str(root), 'train')
