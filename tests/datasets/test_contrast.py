"""NormalizeContrast gives every image the same mean and the same contrast."""

import cv2
import numpy as np
import pytest

from r2kd_mm.datasets import NormalizeContrast
from r2kd_mm.registry import TRANSFORMS


def normalized(image: np.ndarray, **arguments: float) -> np.ndarray:
    return NormalizeContrast(**arguments)(dict(img=image))['img']


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 140, (32, 32, 3), dtype=np.uint8)


def test_every_channel_gets_the_mean_and_the_spread(image):
    result = normalized(image, spread=30.0)
    assert result.dtype == np.uint8
    assert result.shape == image.shape
    assert result.mean((0, 1)) == pytest.approx([127.5] * 3, abs=0.5)
    assert result.std((0, 1)) == pytest.approx([30.0] * 3, abs=0.5)


def test_it_is_the_formula_rounded_and_cut_off(image):
    image[:4, :4] = 250
    pixels = image.astype(float)
    expected = 127.5 + 48 * (pixels - pixels.mean((0, 1))) / pixels.std((0, 1))
    assert expected.max() > 255
    assert np.abs(normalized(image) - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-9


def test_brightness_and_contrast_of_a_channel_do_not_matter(image):
    changed = (image * np.array([1.0, 0.5, 1.2]) + np.array([90, 10, 0])).round().astype(np.uint8)
    differences = normalized(changed).astype(int) - normalized(image)
    assert np.abs(differences).max() <= 3  # of rounding to whole numbers, which the contrast then enlarges


def test_an_image_without_contrast_is_grey_and_not_an_error():
    assert (normalized(np.full((8, 8, 3), 7, np.uint8)) == 128).all()


def test_images_of_one_channel_keep_their_shape(image):
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert normalized(grey[..., None]).shape == (32, 32, 1)
    assert (normalized(grey[..., None])[..., 0] == normalized(grey)).all()


def test_it_is_known_by_its_name_and_says_what_it_does():
    assert repr(TRANSFORMS.build(dict(type='NormalizeContrast', spread=40.0))) == 'NormalizeContrast(spread=40.0)'


@pytest.mark.parametrize('spread', [0, -1.0, 128, float('nan'), '48', True])
def test_an_impossible_spread_is_refused(spread):
    with pytest.raises(ValueError, match=r'spread must be above 0 and at most 127.5, got'):
        NormalizeContrast(spread)


def test_images_that_are_no_longer_whole_numbers_are_refused(image):
    with pytest.raises(TypeError, match='uint8, got float32; put it further ahead'):
        normalized(image.astype(np.float32))
