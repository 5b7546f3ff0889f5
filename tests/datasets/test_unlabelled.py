"""Unlabelled images can be appended to a labelled data set; labels of the appended images are hidden."""

import pytest
import toys

from r2kd_mm.datasets import WithUnlabelled
from r2kd_mm.labels import NO_LABEL, UNLABELLED, labelled_rows


@pytest.fixture
def data():
    return WithUnlabelled(toys.Images(4), [toys.Images(3, seed=1), toys.Images(2, seed=2)])


def test_labelled_images_come_first_and_keep_their_labels(data):
    assert (len(data), data.num_labelled) == (9, 4)
    assert data.metainfo == toys.Images(4).metainfo
    samples = [data[index]['data_samples'] for index in range(9)]
    assert [int(sample.gt_label) for sample in samples[:4]] == [int(each.gt_label) for each in toys.Images(4).samples]
    assert [int(sample.gt_label) for sample in samples[4:]] == [NO_LABEL] * 5
    assert labelled_rows(samples) == [0, 1, 2, 3]
    assert labelled_rows(samples[:4]) is None
    assert samples[4].cpu().get(UNLABELLED) is True  # what moves a sample keeps the mark


def test_the_data_sets_keep_their_labels(data):
    assert data[4]['data_samples'] is not data.datasets[1].samples[0]
    assert int(data.datasets[1].samples[0].gt_label) >= 0


def test_what_is_known_of_a_sample_says_so(data):
    for member in data.datasets:
        member.get_data_info = lambda index: dict(img_path=f'{index}.jpg', gt_label=1)
    assert data.get_data_info(3) == dict(img_path='3.jpg', gt_label=1)
    assert data.get_data_info(7) == {'img_path': '0.jpg', UNLABELLED: True}


def test_refuses_samples_that_are_not_packed_and_no_data():
    with pytest.raises(TypeError, match='got a int without a data sample; let the pipelines of unlabelled end in Pack'):
        WithUnlabelled(toys.Images(4), [[1, 2]])[4]
    with pytest.raises(ValueError, match='at least one data set, got none'):
        WithUnlabelled(toys.Images(4), [])
    with pytest.raises(ValueError, match='unlabelled of WithUnlabelled have no image'):
        WithUnlabelled(toys.Images(4), [[]])
