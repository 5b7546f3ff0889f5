"""Each image corruption has its stated effect and strength, at every image size."""

import cv2
import numpy as np
import pytest

from r2kd_mm.corruptions import FAMILIES, NAMES, SEVERITIES, corrupt

EVERY = pytest.mark.parametrize('name', NAMES)


def picture(height=64, width=64, channels=3):
    """Smooth shapes with some edges, as in a photograph."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
    image[height // 4 : height // 2, width // 4 : width // 2] = 230
    return image


def corrupted(image, name, severity, seed=0):
    return corrupt(image, name, severity, np.random.default_rng(seed))


def distance(image, name, severity, seeds=5):
    """Mean absolute difference to the clean image over several draws."""
    clean = image.astype(float)
    return np.mean([np.abs(corrupted(image, name, severity, seed) - clean).mean() for seed in range(seeds)])


def test_they_are_the_fifteen_of_the_paper_in_four_families():
    assert len(NAMES) == 15
    assert [name for names in FAMILIES.values() for name in names] == list(NAMES)
    assert {family: len(names) for family, names in FAMILIES.items()} == dict(noise=3, blur=4, weather=4, digital=4)


@EVERY
@pytest.mark.parametrize('shape', [(8, 8), (8, 8, 1), (32, 32, 3), (150, 224, 3)])
def test_shape_and_type_stay_and_the_image_given_is_left_alone(name, shape):
    image = picture(*shape[:2], *(shape[2:] or (1,))).reshape(shape)
    before = image.copy()
    for severity in SEVERITIES:
        result = corrupted(image, name, severity)
        assert result.shape == shape
        assert result.dtype == np.uint8
        assert not np.array_equal(result, before)
        assert np.array_equal(image, before)


@EVERY
@pytest.mark.parametrize('side', [8, 32, 128])
def test_the_strongest_is_further_from_the_image_than_the_weakest(name, side):
    image = picture(side, side)
    assert distance(image, name, 5) > 1.1 * distance(image, name, 1)


@EVERY
def test_the_generator_decides_everything(name):
    image = picture()
    assert np.array_equal(corrupted(image, name, 3), corrupted(image, name, 3))
    random = name not in (
        'defocus_blur', 'zoom_blur', 'brightness', 'contrast', 'pixelate', 'jpeg_compression'
    )  # fmt: skip
    assert np.array_equal(corrupted(image, name, 3, seed=1), corrupted(image, name, 3)) is not random


@pytest.mark.parametrize(
    'name', ['defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur', 'contrast', 'elastic_transform', 'pixelate']
)
def test_an_image_of_one_colour_stays_as_it_is(name):
    image = np.full((40, 40, 3), (10, 120, 250), dtype=np.uint8)
    for severity in SEVERITIES:
        assert np.array_equal(corrupted(image, name, severity), image)


def test_the_noises_have_the_strength_that_they_state():
    grey = np.full((256, 256, 1), 128, dtype=np.uint8)
    for severity, deviation in zip(SEVERITIES[:3], (0.08, 0.12, 0.18)):  # the stronger ones are cut off at black, white
        assert corrupted(grey, 'gaussian_noise', severity).std() == pytest.approx(255 * deviation, rel=0.03)
    for severity, photons in zip(SEVERITIES[:3], (60, 25, 12)):
        expected = 255 * np.sqrt(128 / 255 / photons)
        assert corrupted(grey, 'shot_noise', severity).std() == pytest.approx(expected, rel=0.05)
    for severity, share in zip(SEVERITIES, (0.03, 0.06, 0.09, 0.17, 0.27)):
        result = corrupted(grey, 'impulse_noise', severity)
        assert [(result == value).mean() for value in (0, 255)] == pytest.approx([share / 2] * 2, rel=0.1)


def test_brightness_keeps_the_hue_and_contrast_keeps_the_mean():
    pixel = np.array([[[100, 40, 0], [250, 250, 250], [0, 0, 0]]], dtype=np.uint8)
    value = 151
    expected = [[value, round(0.4 * value), 0], [255] * 3, [51] * 3]  # 51 is a fifth of 255
    assert corrupted(pixel, 'brightness', 2)[0].tolist() == expected
    image = picture()
    flat = corrupted(image, 'contrast', 2)
    np.testing.assert_allclose(flat.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=0.5)
    np.testing.assert_allclose(flat.std(axis=(0, 1)), 0.3 * image.std(axis=(0, 1)), rtol=0.02)


def test_pixelate_leaves_as_many_colours_as_there_are_large_pixels():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    blocks = np.unique(corrupted(image, 'pixelate', 5).reshape(-1, 3), axis=0)
    assert len(blocks) == (40 // 4) ** 2


def test_jpeg_keeps_what_opencv_keeps_of_the_file():
    image = picture()
    _, file = cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, 7))
    assert np.array_equal(corrupted(image, 'jpeg_compression', 5), cv2.imdecode(file, cv2.IMREAD_COLOR))


@pytest.mark.parametrize('name', ['defocus_blur', 'motion_blur'])
def test_a_severity_blurs_the_same_share_of_an_image_at_every_size(name):
    def blurred_share(side):
        edge = np.zeros((side, side, 1), dtype=np.uint8)
        edge[:, side // 2 :] = 255
        rows = [corrupted(edge, name, 5, seed) for seed in range(20)]
        return np.mean([((row > 0) & (row < 255)).mean() for row in rows])

    assert blurred_share(224) == pytest.approx(blurred_share(96), rel=0.25)


@pytest.mark.parametrize(
    ('image', 'name', 'severity', 'message'),
    [
        (picture(), 'rain', 1, "unknown corruption 'rain'; known: gaussian_noise, shot_noise"),
        (picture(), 'fog', 6, r'severity must be one of \(1, 2, 3, 4, 5\), got 6'),
        (picture(), 'fog', True, 'got True'),
        (picture() / 255, 'fog', 1, r'uint8 and shape .* got float64 of shape \(64, 64, 3\)'),
        (np.zeros((3, 8, 8), np.uint8), 'fog', 1, r'got uint8 of shape \(3, 8, 8\)'),
    ],
)
def test_a_mistake_is_named(image, name, severity, message):
    with pytest.raises(ValueError, match=message):
        corrupted(image, name, severity)
