"""The data set Digits: which images each split has, and which arguments are refused."""

import sys

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from sklearn.datasets import load_digits

from r2kd_mm.datasets.digits import Digits
from r2kd_mm.registry import DATASETS


def images_of(dataset: Digits) -> set[bytes]:
    return {dataset[index]['img'].tobytes() for index in range(len(dataset))}


def test_the_default_split_has_30_of_each_digit_and_tests_on_the_rest():
    train, test = Digits('train'), Digits('test')
    assert np.bincount(train.get_gt_labels()).tolist() == [30] * 10
    assert len(train) + len(test) == 1797
    assert not images_of(train) & images_of(test)


def test_images_equal_scikit_learn_scaled_to_the_range_of_a_byte():
    bundled = load_digits()
    test = Digits('test', train_size=10)
    image = test[0]['img']
    assert image.shape == (8, 8, 1)
    assert image.dtype == np.uint8
    assert max(test[index]['img'].max() for index in range(20)) == 255
    matches = [
        index for index, other in enumerate(bundled.images) if np.array_equal(np.rint(other / 16 * 255), image[..., 0])
    ]
    assert bundled.target[matches[0]] == test[0]['gt_label']


def test_the_split_depends_on_its_own_seed_alone():
    reference = images_of(Digits('train'))
    np.random.seed(123)  # what a run's seed sets
    assert images_of(Digits('train')) == reference
    assert images_of(Digits('train', split_seed=1)) != reference


def test_a_larger_training_set_keeps_the_images_of_a_smaller_one():
    assert images_of(Digits('train', train_size=100)) < images_of(Digits('train', train_size=300))


def test_colour_repeats_the_grey_values():
    grey, colour = Digits('train')[5]['img'], Digits('train', channels=3)[5]['img']
    assert colour.shape == (8, 8, 3)
    assert np.array_equal(colour, np.concatenate([grey] * 3, axis=-1))


def test_it_is_found_by_name_and_knows_its_classes():
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        dataset = DATASETS.build(dict(type='Digits', split='test', lazy_init=True))
    assert dataset.metainfo['classes'] == tuple('0123456789')


def test_the_largest_training_set_leaves_every_digit_to_test_on():
    assert np.bincount(Digits('test', train_size=1730).get_gt_labels()).min() == 1


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(split='val'), r"split must be one of \('train', 'test'\), got 'val'"),
        (dict(split='train', train_size=305), 'multiple of 10 from 10 to 1730, got 305'),
        (dict(split='train', train_size=1740), 'multiple of 10 from 10 to 1730, got 1740'),
        (dict(split='train', train_size=0), 'multiple of 10 from 10 to 1730, got 0'),
        (dict(split='train', channels=2), 'channels must be 1 .* or 3 .*, got 2'),
        (dict(split='train', split_seed=-1), 'split_seed must be >= 0, got -1'),
    ],
)
def test_what_is_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Digits(**fields)


def test_without_scikit_learn_it_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn', None)
    with pytest.raises(ImportError, match=r"pip install 'r2kd_mm\[demo\]'"):
        Digits('train')
