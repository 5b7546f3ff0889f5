"""The data set Glyph-100: how its images are drawn and cached, and which arguments are refused."""

import importlib
import logging
import multiprocessing
import re
from itertools import combinations
from pathlib import Path

import converters
import matplotlib
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image, ImageDraw, ImageFont

from r2kd_mm.datasets import glyph100
from r2kd_mm.datasets.contrast import NormalizeContrast
from r2kd_mm.datasets.glyph100 import Glyph100, check_reference, noisy_labels
from r2kd_mm.datasets.glyphs import CHARACTERS, CLASSES, FONTS, SHIFTED_FONTS, SPLITS, Painter, font_masks
from r2kd_mm.datasets.glyphs.drawing import Draws, blur, contrasting
from r2kd_mm.datasets.glyphs.masks import ASCENT, COLUMNS, RESOLUTION, fill
from r2kd_mm.registry import DATASETS

BASE_CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/glyph100.py'


@pytest.fixture
def glyphs(tmp_path):
    """``glyphs(split, **fields)``: 200 images, kept in a folder of the test."""

    def make(split: str, size: int = 200, **fields) -> Glyph100:
        return Glyph100(split, size=size, cache_dir=str(tmp_path), **fields)

    return make


def images_of(dataset: Glyph100) -> np.ndarray:
    return np.stack([dataset[index]['img'] for index in range(len(dataset))])


# --- characters and fonts ---


def test_100_classes_have_readable_unique_ascii_names():
    assert len(set(CLASSES)) == len(set(CHARACTERS)) == 100
    assert all(name.isascii() for name in CLASSES)
    assert {'latin small a', 'greek capital gamma', 'cyrillic small be', 'digit zero'} <= set(CLASSES)


@pytest.mark.parametrize('font', [*FONTS, *SHIFTED_FONTS])
def test_no_two_classes_look_alike_in_any_font(font):
    masks, _ = font_masks(font)
    flat = masks.reshape(len(masks), -1).astype(np.int64)
    common = flat @ flat.T
    together = flat.sum(1)[:, None] + flat.sum(1) - common
    alike = {
        CHARACTERS[one] + CHARACTERS[two]: common[one, two] / together[one, two]
        for one, two in combinations(range(len(CHARACTERS)), 2)
    }
    worst = max(alike, key=alike.get)
    assert alike[worst] < 0.98, f'{worst} share {alike[worst]:.1%} of their area'


@pytest.mark.parametrize('font', [*FONTS, *SHIFTED_FONTS])
def test_masks_are_what_freetype_draws(font):
    scale = 4  # FreeType fits stems to whole pixels: to small ones here
    masks, widths = font_masks(font)
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', font)
    freetype = ImageFont.truetype(str(path), scale * RESOLUTION, layout_engine=ImageFont.Layout.BASIC)
    for label in range(0, len(CHARACTERS), 6):
        mask = masks[label].astype(bool).repeat(scale, axis=0).repeat(scale, axis=1)
        image = Image.new('L', mask.shape[::-1])
        middle = scale * (COLUMNS - widths[label] * RESOLUTION) / 2
        ImageDraw.Draw(image).text(
            (scale * COLUMNS // 8, scale * ASCENT), CHARACTERS[label], 255, freetype, anchor='ls'
        )
        drawn = np.asarray(image) > 127
        first, last = np.flatnonzero(drawn.any(axis=0))[[0, -1]]
        drawn = np.roll(drawn, round(middle) - first, axis=1)
        assert abs(widths[label] * RESOLUTION - (last - first + 1) / scale) < 1
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.9, CHARACTERS[label]


def test_the_border_of_every_mask_is_empty():
    for font in (*FONTS, *SHIFTED_FONTS):
        masks, _ = font_masks(font)
        assert masks[:, 1:-1, 1:-1].sum() == masks.sum() > 0


def test_a_polygon_is_filled_by_the_nonzero_winding_rule():
    def square(start: int, stop: int) -> list:
        corners = [(start, start), (stop, start), (stop, stop), (start, stop)]
        return [[corners[side], corners[(side + 1) % 4]] for side in range(4)]

    def area(*edges: list) -> int:
        return int(fill(np.array(sum(edges, []), dtype=float)).sum())

    hole = [[stop, start] for start, stop in square(20, 30)]
    assert area(square(10, 50)) == 40 * 40
    assert area(square(10, 50), square(20, 30)) == 40 * 40  # the same turn: still inside
    assert area(square(10, 50), hole) == 40 * 40 - 10 * 10
    assert area([[(10, 10), (50, 10)], [(50, 10), (10, 50)], [(10, 50), (10, 10)]]) == 40 * 41 / 2 - 40  # open diagonal


def test_another_font_file_is_refused_with_both_sums(monkeypatch):
    font = next(iter(FONTS))
    monkeypatch.setitem(FONTS, font, '0' * 64)
    with pytest.raises(RuntimeError, match=rf'{font} of SHA-256 0{{64}}.*found at .*[0-9a-f]{{64}}'):
        font_masks.__wrapped__(font)


# --- images ---


@pytest.mark.parametrize('split', SPLITS)
def test_images_equal_the_reference_of_the_version(split):
    check_reference.__wrapped__(split)


def test_a_machine_that_draws_other_images_is_refused(monkeypatch, glyphs):
    check_reference.cache_clear()
    monkeypatch.setitem(glyph100.REFERENCE, 'val', '0' * 64)
    with pytest.raises(RuntimeError, match=r'256 val images .* SHA-256 [0-9a-f]{64}, expected 0{64}'):
        glyphs('val')


def test_a_smaller_size_is_the_beginning_of_a_larger_one_and_balanced(glyphs):
    small, large = glyphs('train', size=100), glyphs('train', size=300)
    assert np.array_equal(images_of(small), images_of(large)[:100])
    assert np.bincount(large.get_gt_labels()).tolist() == [3] * 100


def test_no_image_is_in_two_splits_or_seeds(glyphs):
    sets = [images_of(glyphs(split)) for split in SPLITS] + [images_of(glyphs('train', seed=1))]
    assert len({image.tobytes() for images in sets for image in images}) == sum(map(len, sets))


def test_images_depend_on_no_other_random_numbers():
    painter = Painter('test', 0, 0.5)
    reference = painter.paint(7)
    np.random.seed(123)  # what a run's seed sets
    painter.paint(8)
    assert np.array_equal(painter.paint(7), reference)
    assert np.array_equal(Painter('test', 0, 0.5).paint(7), reference)


def test_only_the_shifted_split_shows_the_shifted_fonts():
    assert not FONTS.keys() & SHIFTED_FONTS.keys()
    fonts = {split: {id(masks) for masks, _ in Painter(split, 0, 0.5).fonts} for split in SPLITS}
    assert fonts['train'] == fonts['val'] == fonts['test']
    assert len(fonts['train']) == len(FONTS)
    assert len(fonts['shifted']) == len(SHIFTED_FONTS)
    assert not fonts['train'] & fonts['shifted']


def test_difficulty_makes_the_same_scene_harder():
    painters = [Painter('train', 0, difficulty) for difficulty in (0.0, 0.3, 1.0)]
    plain, light, heavy = (np.stack([painter.paint(i) for i in range(100)]).astype(int) for painter in painters)
    assert np.abs(light - plain).mean() < np.abs(heavy - plain).mean()
    # without noise and gradient the corners of an image without neighbours have one colour
    assert (np.ptp(plain[:, :2, :2], axis=(1, 2)).max(axis=1) == 0).sum() > 50
    assert (np.ptp(light[:, :2, :2], axis=(1, 2)).max(axis=1) == 0).sum() == 0


def test_a_character_differs_from_the_background_by_the_least_contrast():
    luma = np.array([0.299, 0.587, 0.114])
    draws = Draws(1)
    moved = 0
    for _ in range(500):
        colour, background = ([draws.uniform(0, 255) for _ in range(3)] for _ in range(2))
        ink = contrasting(colour, background, least=100)
        assert abs(luma @ ink - luma @ background) > 100 - 1e-9
        assert min(ink) >= 0
        assert max(ink) <= 255
        moved += ink != colour
    assert 0 < moved < 500


def test_the_noise_has_the_moments_of_a_normal_one():
    noise = Draws(1).noise(300_000)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((noise**3).mean()) < 0.02
    assert abs((noise**4).mean() - (3 - 1.2 / 4)) < 0.05  # a sum of n uniform numbers lacks 1.2 / n


def test_blur_keeps_the_sum_and_spreads_a_pixel():
    image = np.zeros((5, 1, 1))
    image[2] = 1
    assert blur(image, 0.2)[:, 0, 0].tolist() == pytest.approx([0, 0.2, 0.6, 0.2, 0])
    assert np.allclose(blur(np.full((5, 1, 1), 3.0), 0.2), 3)


# --- labels ---


@pytest.mark.parametrize(('share', 'wrong'), [(0.0, 0), (0.2, 400), (0.005, 10), (1.0, 2000)])
def test_exactly_the_stated_share_of_labels_is_wrong(share, wrong):
    labels = noisy_labels(2000, seed=0, share=share)
    assert (labels != np.arange(2000) % 100).sum() == wrong
    assert set(labels) <= set(range(100))


def test_wrong_labels_are_spread_over_the_other_classes():
    steps = (noisy_labels(20_000, seed=0, share=1.0) - np.arange(20_000)) % 100
    counts = np.bincount(steps, minlength=100)
    assert counts[0] == 0
    assert ((counts[1:] - 202) ** 2 / 202).sum() < 150  # chi-squared of 98 degrees of freedom, 99.9 %


def test_more_noise_or_more_images_keep_the_wrong_labels():
    true = np.arange(1000) % 100
    low, high = (noisy_labels(1000, seed=3, share=share) for share in (0.2, 0.4))
    wrong = low != true
    assert np.array_equal(high[wrong], low[wrong])
    assert np.array_equal(noisy_labels(500, seed=3, share=0.2), low[:500])
    assert not np.array_equal(noisy_labels(1000, seed=4, share=0.2), low)


def test_label_noise_changes_labels_alone_and_keeps_the_true_ones(glyphs):
    clean, noisy = glyphs('train'), glyphs('train', label_noise=0.4)
    assert np.array_equal(images_of(clean), images_of(noisy))
    labels = np.array([[noisy[index][key] for key in ('gt_label', 'true_label')] for index in range(200)])
    assert (labels[:, 0] != labels[:, 1]).sum() == 80
    assert labels[:, 1].tolist() == clean.get_gt_labels().tolist()


# --- the cache ---


def test_images_are_drawn_once(glyphs, monkeypatch):
    first = images_of(glyphs('test'))
    monkeypatch.setattr(Painter, 'paint', lambda self, index: pytest.fail('drawn again'))
    assert np.array_equal(images_of(glyphs('test')), first)


@pytest.mark.parametrize('fields', [dict(size=300), dict(seed=1), dict(difficulty=0.25)])
def test_what_decides_the_images_is_in_the_name_of_the_file(glyphs, fields):
    assert glyphs('train', lazy_init=True).cache_file != glyphs('train', lazy_init=True, **fields).cache_file


@pytest.mark.parametrize(
    'damage', [lambda content: content[: len(content) // 2], lambda content: b'', lambda content: b'\0' * len(content)]
)
def test_a_damaged_file_is_drawn_again_with_a_warning(glyphs, damage, caplog, monkeypatch):
    dataset = glyphs('val')
    content = dataset.cache_file.read_bytes()
    dataset.cache_file.write_bytes(damage(content))
    messages = []
    monkeypatch.setattr(
        glyph100, 'print_log', lambda message, *_, level=logging.INFO: messages.append((level, message))
    )
    assert np.array_equal(images_of(glyphs('val')), images_of(dataset))
    assert dataset.cache_file.read_bytes() == content
    level, message = messages[0]
    assert level == logging.WARNING
    assert re.search(r'difficulty0\.5\.npz.* is damaged', message)


def test_a_file_with_other_images_is_not_taken(glyphs):
    dataset = glyphs('val')
    expected = images_of(dataset)
    np.savez(dataset.cache_file, images=np.zeros_like(expected), sha256=np.array('0' * 64))
    assert np.array_equal(images_of(glyphs('val')), expected)


def test_two_processes_at_once_leave_one_whole_file(tmp_path):
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=Glyph100, kwargs=dict(split='train', size=100, cache_dir=str(tmp_path)))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (file,) = tmp_path.iterdir()
    with np.load(file) as content:
        assert content['images'].shape == (100, 32, 32, 3)


# --- arguments and config ---


def test_it_is_found_by_name_and_knows_its_classes():
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        dataset = DATASETS.build(dict(type='Glyph100', split='test', lazy_init=True))
    assert dataset.metainfo['classes'] == CLASSES
    assert dataset.size == 10_000


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(split='dev'), r"split must be one of \('train', 'val', 'test', 'shifted'\), got 'dev'"),
        (dict(split='train', size=150), 'positive multiple of 100, got 150'),
        (dict(split='train', size=0), 'positive multiple of 100, got 0'),
        (dict(split='train', seed=-1), 'seed must be an integer from 0 to 4294967295, got -1'),
        (dict(split='train', seed=2**32), 'got 4294967296'),
        (dict(split='train', difficulty=1.5), 'difficulty must be a number from 0 to 1, got 1.5'),
        (dict(split='train', label_noise=40), 'label_noise must be a number from 0 to 1, got 40'),
        (
            dict(split='val', label_noise=0.2),
            "label_noise is for the split 'train': 'val' must measure with true labels",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Glyph100(**fields)


def test_the_config_normalises_by_the_pixels_of_the_training_images():
    cfg = Config.fromfile(BASE_CONFIG)
    painter = Painter('train', 0, 0.5)
    images = [NormalizeContrast()(dict(img=painter.paint(index)))['img'] for index in range(1000)]
    pixels = np.stack(images).reshape(-1, 3)
    assert cfg.data_preprocessor.mean == pytest.approx(pixels.mean(axis=0), abs=0.2)
    assert cfg.data_preprocessor.std == pytest.approx(pixels.std(axis=0), abs=0.2)
    assert [step.type.__name__ for step in cfg.train_pipeline] == ['NormalizeContrast', 'RandomCrop', 'PackInputs']


def test_the_config_selects_on_val_and_reports_on_test_or_shifted():
    cfg = Config.fromfile(BASE_CONFIG)
    cfg.merge_from_dict({'test_dataloader.dataset.split': 'shifted'})
    splits = [cfg[f'{mode}_dataloader'].dataset.split for mode in ('train', 'val', 'test')]
    assert splits == ['train', 'val', 'shifted']
    assert Config.fromfile(BASE_CONFIG).test_dataloader.dataset.split == 'test'


# --- the tool ---


def test_the_tool_draws_what_a_run_then_loads(tmp_path, monkeypatch, capsys):
    importlib.import_module('make_glyph100').main([str(tmp_path), '--splits', 'val', '--size', '100'])
    monkeypatch.setattr(Painter, 'paint', lambda self, index: pytest.fail('drawn again'))
    dataset = Glyph100('val', size=100, cache_dir=str(tmp_path))
    assert f'{dataset.cache_file}: 100 images' in capsys.readouterr().out


@pytest.mark.slow
def test_the_tool_draws_the_pictures_of_the_data_card(tmp_path):
    importlib.import_module('make_glyph100').main([str(tmp_path), '--pictures'])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in (converters.toolbox.ROOT / 'docs/images').glob('glyph100*.png')}
    assert all(min(Image.open(tmp_path / name).size) > 300 for name in names)
