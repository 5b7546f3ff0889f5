"""In the folders that small_folders.py writes, each split has its own pictures."""

import json

import numpy as np
import pytest
import small_folders
from PIL import Image

from r2kd_mm.datasets import ImageFolder


def pictures(root, split):
    """Map each picture of a split to the number of files with it."""
    return [path.read_bytes() for path in sorted((root / split).rglob('*.png'))]


def test_the_digits_of_the_splits_are_different_pictures(tmp_path):
    small_folders.write_digits(tmp_path, train=2, val=1, more=3)
    train, val, more = (set(pictures(tmp_path, split)) for split in ('train', 'val', 'more'))
    assert (len(train), len(val), len(more), len(train | val | more)) == (20, 10, 30, 60)
    assert len(ImageFolder(str(tmp_path), 'train', lazy_init=False).metainfo['classes']) == 10


def test_crops_stay_between_their_columns():
    pixels = np.zeros((60, 200, 3), np.uint8)
    pixels[:, 100:] = 255
    picture = Image.fromarray(pixels)
    for left, right, value in ((0, 100, 0), (100, 200, 255)):
        for crop in small_folders.crops(picture, left, right, 5, np.random.default_rng(0)):
            assert crop.size == (32, 32)
            assert np.all(np.asarray(crop) == value)


def test_more_glyphs_are_not_those_of_train(tmp_path):
    small_folders.write_glyphs(tmp_path, 0.5, train=1, val=1, more=2)
    train, val, more = (set(pictures(tmp_path, split)) for split in ('train', 'val', 'more'))
    assert (len(train), len(val), len(more), len(train | val | more)) == (20, 20, 40, 80)


def test_an_icon_is_found_by_family_and_rendered_in_two_colours(tmp_path):
    matplotlib = pytest.importorskip('matplotlib')
    font = matplotlib.get_data_path() + '/fonts/ttf/DejaVuSans.ttf'
    (tmp_path / 'family-1.0.ttf').symlink_to(font)
    (tmp_path / 'family-charmap-1.0.json').write_text(json.dumps({'star-fill': '0x2605'}))
    codes, suffix = small_folders.read(tmp_path, 'family', '-fill')
    assert codes['star' + suffix] == ord('★')
    family = small_folders.ImageFont.truetype(tmp_path / small_folders.font_file(tmp_path, 'family', 'ttf'), 48)
    drawn = np.asarray(small_folders.render(family, '★', np.random.default_rng(0)), dtype=float)
    brightness = drawn.mean(axis=2)
    assert drawn.shape == (32, 32, 3)
    assert np.abs(brightness - brightness[:3, :3].mean()).max() > 50  # of two colours that differ by 60, and noise


def test_train_and_val_share_no_family_of_icons():
    def files(families):
        return {file for file, _ in families}

    assert not files((*small_folders.TRAIN_FAMILIES, *small_folders.MORE_FAMILIES)) & files(small_folders.VAL_FAMILIES)
