"""CIFAR100 gives the samples of mmpretrain's class, and runs no code from the pickle files."""

import os
import pickle
import warnings

import mmpretrain.datasets
import numpy as np
import pytest

from r2kd_mm.datasets import CIFAR100


class UncheckedCIFAR100(mmpretrain.datasets.CIFAR100):
    """mmpretrain's class without its sums, and with the names of the file."""

    train_list, test_list = [['train', None]], [['test', None]]
    meta = {'filename': 'meta', 'key': 'fine_label_names'}
    METAINFO = {}


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.filterwarnings('ignore:dtype')  # NumPy 2.4 on the flags that Python 2 wrote
def test_samples_labels_and_names_equal_mmpretrain(mini, split):
    ours = CIFAR100(str(mini('cifar100')), split)
    theirs = UncheckedCIFAR100(str(mini('cifar100')), split, download=False)
    assert list(ours.get_gt_labels()) == list(theirs.get_gt_labels())
    assert ours.metainfo['classes'] == tuple(theirs.metainfo['classes'])
    for index in range(len(theirs)):
        np.testing.assert_array_equal(ours[index]['img'], theirs[index]['img'])


def test_files_of_python_2_load_without_a_warning(mini):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        CIFAR100(str(mini('cifar100')), 'train')


def test_files_of_other_images_are_refused_by_their_checksum(own_mini):
    root = own_mini('cifar100')
    (root / 'contents.json').unlink()
    with pytest.raises(
        ValueError, match='cifar-100-python/train is not the published file: its MD5 sum is [0-9a-f]{32}'
    ):
        CIFAR100(str(root), 'train')


def test_a_pickle_that_runs_code_does_not_run(own_mini, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'attacked'),)

    root = own_mini('cifar100')
    (root / 'cifar-100-python/train').write_bytes(pickle.dumps(dict(data=Attack())))
    with pytest.raises(ValueError, match='train cannot be read: it refers to posix.mkdir, which no file of CIFAR-100'):
        CIFAR100(str(root), 'train')
    assert not (tmp_path / 'attacked').exists()


@pytest.mark.parametrize(
    'content', [b'', b'not a pickle', pickle.dumps(dict(data=np.zeros((2, 3072), np.uint8)))[:-99]]
)
def test_a_broken_file_is_named(own_mini, content):
    root = own_mini('cifar100')
    (root / 'cifar-100-python/test').write_bytes(content)
    with pytest.raises(ValueError, match='cifar-100-python/test cannot be read: '):
        CIFAR100(str(root), 'test')


@pytest.mark.parametrize(('content', 'message'), [
    ([], 'is not a file of CIFAR-100'),
    (dict(data=np.zeros((2, 3072), np.uint8)), r"is not a file of CIFAR-100 \(KeyError\('fine_labels'\)\)"),
    (dict(data=np.zeros((2, 300), np.uint8), fine_labels=[0, 1]), 'cannot reshape'),
    (dict(data=np.zeros((2, 3072), np.uint8), fine_labels=[0]), 'has 2 images, but 1 labels'),
    (dict(data=np.zeros((2, 3072), np.uint8), fine_labels=[0, 1]), 'found 4 classes and 2 test images, expected 4'),
])  # fmt: skip
def test_a_file_with_other_content_is_refused(own_mini, content, message):
    root = own_mini('cifar100')
    (root / 'cifar-100-python/test').write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        CIFAR100(str(root), 'test')
