"""Images load as with mmcv; a broken image is an error that names it, or is skipped if the config says so."""

import copy
import io
import os
from multiprocessing.reduction import ForkingPickler

import cv2
import mmcv.transforms
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image

from r2kd_mm.datasets import LoadImageFromFile
from r2kd_mm.datasets.loading import is_truncated
from r2kd_mm.engine import RunStopped
from r2kd_mm.registry import TRANSFORMS


def picture(height=30, width=40):
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def encode(file_format, mode='RGB', **options):
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(buffer, file_format, **options)
    return buffer.getvalue()


def with_thumbnail():
    """A JPEG that begins as cameras write them: with a smaller JPEG in the header."""
    inner, outer = encode('JPEG', quality=5), encode('JPEG')
    header = b'Exif\0\0' + inner
    return outer[:2] + b'\xff\xe1' + (len(header) + 2).to_bytes(2, 'big') + header + outer[2:]


WHOLE = {
    'JPEG': encode('JPEG'),
    'progressive JPEG': encode('JPEG', progressive=True),
    'grey JPEG': encode('JPEG', 'L'),
    'CMYK JPEG': encode('JPEG', 'CMYK'),
    'JPEG with a thumbnail': with_thumbnail(),
    'PNG': encode('PNG'),
    'transparent PNG': encode('PNG', 'RGBA'),
    'palette PNG': encode('PNG', 'P'),
    'black and white PNG': encode('PNG', '1'),
    '16-bit PNG': cv2.imencode('.png', picture().astype(np.uint16) * 257)[1].tobytes(),
    '16-bit grey PNG': cv2.imencode('.png', picture()[..., 0].astype(np.uint16) * 257)[1].tobytes(),
    'BMP': encode('BMP'),
    'PPM': encode('PPM'),
    'TIFF': encode('TIFF'),
    'WebP': encode('WEBP'),
    'lossless WebP': encode('WEBP', lossless=True),
    '16-bit TIFF': cv2.imencode('.tif', picture().astype(np.uint16) * 257)[1].tobytes(),
}
EACH = pytest.mark.parametrize('kind', WHOLE)


@pytest.fixture
def load(tmp_path):
    """``load(content, **fields)``: what the transform makes of a file."""

    def load(content, **fields):
        path = tmp_path / 'image'
        path.write_bytes(content)
        return LoadImageFromFile(**fields)(dict(img_path=str(path), gt_label=3))

    return load


@EACH
def test_every_kind_becomes_three_channels_of_8_bits(kind, load):
    results = load(WHOLE[kind])
    assert (results['img'].shape, results['img'].dtype) == ((30, 40, 3), np.uint8)
    assert (results['img_shape'], results['ori_shape'], results['gt_label']) == ((30, 40), (30, 40), 3)


@EACH
def test_the_pixels_equal_mmcv(kind, load, tmp_path):
    ours = load(WHOLE[kind])['img']
    theirs = mmcv.transforms.LoadImageFromFile()(dict(img_path=str(tmp_path / 'image')))['img']
    assert np.array_equal(ours, theirs)


def test_16_bits_are_scaled_not_cut(load):
    assert np.array_equal(load(WHOLE['16-bit PNG'])['img'], picture())


@EACH
def test_bytes_after_the_end_are_no_matter(kind, load):
    assert np.array_equal(load(WHOLE[kind] + b'made by a camera')['img'], load(WHOLE[kind])['img'])


@EACH
@pytest.mark.parametrize('share', [0.05, 0.5, 0.9])
def test_a_truncated_file_is_named(kind, share, load):
    content = WHOLE[kind]
    with pytest.raises(
        RunStopped, match=r"image '.*/image' (is truncated|is broken|cannot be decoded).*; get the file"
    ):
        load(content[: int(share * len(content))])


@pytest.mark.parametrize('kind', [kind for kind in WHOLE if 'JPEG' in kind or 'PNG' in kind])
def test_the_missing_end_is_seen_whatever_opencv_makes_of_it(kind):
    """Some versions of OpenCV decode such a file, with grey where the end is missing."""
    content = WHOLE[kind]
    assert not is_truncated(content)
    assert not is_truncated(content + b'made by a camera')
    for seed in range(20):  # the film of a moving photograph
        assert not is_truncated(content + np.random.default_rng(seed).bytes(1_000_000))
    # before its last scan OpenCV decodes nothing of a JPEG
    begin, end = (b'\x89PNG', b'IEND\xaeB`\x82') if 'PNG' in kind else (b'\xff\xda', b'\xff\xd9')
    for length in range(content.rindex(begin) + len(begin), content.rindex(end), 7):
        assert is_truncated(content[:length]), length
        assert is_truncated(content[:length].ljust(len(content), b'\0')), length


@pytest.mark.parametrize(
    ('content', 'fault'),
    [
        (b'', 'is empty, a file of 0 bytes'),
        (b'<html>404 Not Found</html>', 'is broken, or no image: OpenCV makes nothing of its 26 bytes'),
        (b'\xff\xd8\xff\xd9', 'is broken, or no image'),
    ],
)
def test_what_is_no_image_is_named(content, fault, load):
    with pytest.raises(RunStopped, match=f"image '.*/image' {fault}.*by broken='skip' in LoadImageFromFile"):
        load(content)


def test_a_missing_file_is_named_with_its_reason(tmp_path):
    with pytest.raises(RunStopped, match=r"image '.*/gone.JPEG' cannot be read \(No such file or directory\)"):
        LoadImageFromFile()(dict(img_path=str(tmp_path / 'gone.JPEG')))


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_an_unreadable_file_is_named_with_its_reason(tmp_path):
    (tmp_path / 'secret').touch(mode=0)
    with pytest.raises(RunStopped, match=r'cannot be read \(Permission denied\)'):
        LoadImageFromFile()(dict(img_path=str(tmp_path / 'secret')))


class TestSkip:
    def test_a_broken_image_is_left_out_named_and_counted(self, tmp_path):
        MMLogger.get_instance('skips', log_file=tmp_path / 'log')
        load = LoadImageFromFile(broken='skip')
        good, bad = tmp_path / 'good.JPEG', tmp_path / 'bad.JPEG'
        good.write_bytes(WHOLE['JPEG'])
        bad.write_bytes(WHOLE['JPEG'][:-50])
        assert load(dict(img_path=str(good)))['img'].shape == (30, 40, 3)
        assert load.num_skipped == 0
        assert load(dict(img_path=str(bad))) is None
        assert load(dict(img_path=str(tmp_path / 'gone.JPEG'))) is None
        assert load.num_skipped == 2
        named = (tmp_path / 'log').read_text()
        assert f"Image '{bad}' is truncated" in named
        assert f"Image '{tmp_path / 'gone.JPEG'}' cannot be read (No such file or directory): it is left out" in named

    def test_nothing_is_counted_where_a_broken_image_is_an_error(self):
        assert LoadImageFromFile().num_skipped is None

    def test_data_workers_share_the_count(self, tmp_path):
        load = LoadImageFromFile(broken='skip')
        loader = torch.utils.data.DataLoader(Attempts(load, str(tmp_path / 'gone.JPEG')), 5, num_workers=2)
        assert [int(batch.sum()) for batch in loader] == [0, 0, 0, 0]
        assert load.num_skipped == 20

    def test_a_process_that_is_sent_the_transform_shares_the_count(self, tmp_path):
        load = LoadImageFromFile(broken='skip')
        sent = ForkingPickler.loads(ForkingPickler.dumps(load))  # what a worker gets that is spawned, not forked
        sent(dict(img_path=str(tmp_path / 'gone.JPEG')))
        assert load.num_skipped == sent.num_skipped == 1

    def test_a_copy_counts_for_itself(self, tmp_path):
        load = LoadImageFromFile(broken='skip')
        another = copy.deepcopy(load)
        another(dict(img_path=str(tmp_path / 'gone.JPEG')))
        assert (load.num_skipped, another.num_skipped) == (0, 1)


class Attempts(torch.utils.data.Dataset):
    """Tries to load one image 20 times; whether it could."""

    def __init__(self, load, path):
        self.load, self.path = load, path

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return int(self.load(dict(img_path=self.path)) is not None)


def test_a_wrong_argument_is_refused():
    with pytest.raises(ValueError, match=r"broken must be one of \('error', 'skip'\), got 'ignore'"):
        LoadImageFromFile(broken='ignore')


def test_stands_for_mmcvs_transform_in_a_config_of_ours():
    assert TRANSFORMS.get('LoadImageFromFile') is LoadImageFromFile
    assert repr(LoadImageFromFile('skip')) == "LoadImageFromFile(broken='skip', backend_args=None)"
