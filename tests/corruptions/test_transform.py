"""The corruption transform of a data pipeline corrupts an image in the same way each time."""

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from r2kd_mm.corruptions import Corrupt
from r2kd_mm.registry import DATASETS, TRANSFORMS


def images(**fields):
    """The first images of the digits, corrupted."""
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        pipeline = [dict(type='Corrupt', **dict(dict(name='gaussian_noise', severity=3), **fields))]
        dataset = DATASETS.build(dict(type='Digits', split='test', pipeline=pipeline, indices=5))
    return [dataset[index]['img'] for index in range(5)]


def test_an_image_is_corrupted_in_the_same_way_each_time_and_each_image_in_its_own():
    noise = Corrupt('gaussian_noise', 1)
    grey = np.full((8, 8, 1), 128, dtype=np.uint8)
    other = grey + np.uint8(1)
    first, again = (noise(dict(img=image))['img'] for image in (grey, grey.copy()))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, noise(dict(img=other))['img'] - 1)
    assert all(np.array_equal(*pair) for pair in zip(images(), images()))


@pytest.mark.parametrize('fields', [dict(seed=1), dict(severity=4), dict(name='shot_noise')])
def test_seed_severity_and_name_change_the_draws(fields):
    assert not any(np.array_equal(*pair) for pair in zip(images(), images(**fields)))


def test_it_is_registered_and_shows_its_arguments():
    built = TRANSFORMS.build(dict(type='r2kd_mm.Corrupt', name='fog', severity=2))
    assert isinstance(built, Corrupt)
    assert repr(built) == "Corrupt(name='fog', severity=2, seed=0)"


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('fogg', 1), "unknown corruption 'fogg'"),
        (('fog', 0), 'severity must be one of'),
        (('fog', 1, -1), 'seed must be a whole number of 0 or more, got -1'),
    ],
)
def test_a_mistake_shows_when_it_is_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corrupt(*arguments)
