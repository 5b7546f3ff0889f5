"""Broken photos are named before any training; kinds of image files are counted, and near-duplicates are listed."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from r2kd_mm.datasets import LoadImageFromFile
from r2kd_mm.photos import pictures as module
from r2kd_mm.photos.pictures import look_into_photos

PIXELS = np.kron(np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


def save(folder, name, mode='RGB', orientation=None, pixels=PIXELS):
    image = Image.fromarray(pixels)
    if mode == 'I;16':
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode != 'RGB':
        image = image.convert(mode)
    exif = image.getexif()
    if orientation:
        exif[module.ORIENTATION] = orientation
    folder.mkdir(exist_ok=True)
    image.save(folder / name, exif=exif)
    return folder / name


def look(out, train, val=(), unlabelled=()):
    paths = dict(train=train, val=val, unlabelled=unlabelled)
    return look_into_photos({part: list(map(str, found)) for part, found in paths.items()}, out)


def test_kinds_of_files_are_counted(tmp_path):
    photos = [
        save(tmp_path, name, *rest)
        for name, *rest in (
            ('a.png', 'L'), ('b.jpg', 'L'), ('c.png', 'LA'), ('d.png', 'RGBA'), ('e.png', 'P'), ('f.jpg', 'CMYK'),
            ('g.png', 'I;16'), ('h.jpg', 'RGB', 6), ('i.png', 'RGB', 3), ('j.jpg',), ('k.jpg', 'RGB', 1),
        )
    ]  # fmt: skip
    notes = look(tmp_path / 'out', photos[:5], photos[5:9], photos[9:])
    assert notes[0] == '3 grey, 2 transparent, 1 palette, 1 CMYK, 1 16-bit: converted to RGB of 8 bits'
    assert notes[1] == '2 turned by EXIF: shown upright'


def test_a_png_of_16_bits_a_channel_is_one(tmp_path):
    cv2 = pytest.importorskip('cv2')
    cv2.imwrite(str(tmp_path / 'a.png'), PIXELS.astype(np.uint16) * 257)
    assert '1 16-bit' in look(tmp_path / 'out', [tmp_path / 'a.png'])[0]


@pytest.mark.parametrize('orientation', [3, 6, 5])
@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp', 'a.tif'])
def test_the_training_sees_a_turned_photo_upright(tmp_path, name, orientation):
    path = save(tmp_path, name, orientation=orientation)
    with Image.open(path) as image:
        upright = np.array(ImageOps.exif_transpose(image).convert('RGB'))
    seen = LoadImageFromFile().transform(dict(img_path=str(path)))['img'][..., ::-1]
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).max() <= 1


def test_broken_photos_are_refused_and_all_listed(tmp_path):
    good = save(tmp_path, 'good.jpg')
    broken = []
    for index in range(5):
        broken.append(tmp_path / f'{index}.jpg')
        broken[-1].write_bytes(good.read_bytes()[:-200] if index else b'')
    message = r"5 of 6 photos are broken, all listed in '.*broken\.txt', such as .*0\.jpg: is empty, "
    with pytest.raises(ValueError, match=message + r'a file of 0 bytes; .*1\.jpg: is truncated: .*\. Get them again'):
        look(tmp_path / 'out', [good, *broken[:3]], [], broken[3:])
    lines = (tmp_path / 'out' / 'broken.txt').read_text().splitlines()
    assert [line.split(': ')[0] for line in lines] == [str(path) for path in broken]


def waves(first, second):
    y, x = np.mgrid[:64, :64] / 64
    red = np.sin(first * x * 6 + second * y * 4) * np.cos(second * x * 3)
    return np.stack([127 + 100 * red, 127 + 100 * np.cos(first * y * 7 + x), 255 * x * y], -1).astype(np.uint8)


def test_look_alikes_are_counted_and_listed(tmp_path):
    pytest.importorskip('imagehash')
    train = [save(tmp_path, 'a.png', pixels=waves(1, 1)), save(tmp_path, 'b.png', pixels=waves(2.3, 1.7))]
    smaller = np.array(Image.fromarray(waves(1, 1)).resize((48, 48)))
    val = [save(tmp_path, 'c.jpg', pixels=smaller), save(tmp_path, 'd.png', pixels=waves(1, 1)[::-1])]
    (note,) = look(tmp_path / 'out', train, val)
    assert note.startswith('1 of 2 validation photos look like a training photo (perceptual hash, at most 10 of 64')
    listed = (tmp_path / 'out' / 'look_alikes.txt').read_text()
    assert listed == f'{val[0]} looks like {train[0]}\n'
    assert look(tmp_path / 'out', [*train, val[0]], val[1:]) == []  # the same photos in other parts
    assert not (tmp_path / 'out' / 'look_alikes.txt').exists()


def test_look_alikes_are_searched_once_the_package_is_there(tmp_path, monkeypatch):
    pytest.importorskip('imagehash')
    photos = [save(tmp_path, 'a.png')], [save(tmp_path, 'b.png')]
    with monkeypatch.context() as without:
        without.setattr(module.importlib.util, 'find_spec', lambda name: None)
        assert 'are not searched' in look(tmp_path / 'out', *photos)[0]
    assert look(tmp_path / 'out', *photos)[0].startswith('1 of 1 validation photos look like a training photo')


def test_a_list_of_broken_photos_goes_when_they_are_whole(tmp_path):
    photo = tmp_path / 'a.jpg'
    photo.write_bytes(b'')
    with pytest.raises(ValueError, match='1 of 1 photos are broken'):
        look(tmp_path / 'out', [photo])
    save(tmp_path, 'a.jpg')
    look(tmp_path / 'out', [photo])
    assert not (tmp_path / 'out' / 'broken.txt').exists()


def test_without_the_package_one_note_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'imagehash', None)
    monkeypatch.setattr(module.importlib.util, 'find_spec', lambda name: None)
    notes = look(tmp_path / 'out', [save(tmp_path, 'a.jpg')], [save(tmp_path, 'b.jpg')])
    assert notes == ["look-alikes are not searched: pip install 'r2kd_mm[photos]' (imagehash)"]


def test_the_same_photos_are_looked_into_once(tmp_path):
    photo = save(tmp_path, 'a.jpg', 'L')
    notes = look(tmp_path / 'out', [photo])
    photo.write_bytes(b'')
    assert look(tmp_path / 'out', [photo]) == notes
    with pytest.raises(ValueError, match='1 of 1 photos are broken'):
        look(tmp_path / 'out', [], [photo])


def test_of_many_photos_some_are_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'MOST', 2)
    photos = [save(tmp_path, f'{index}.jpg', 'L') for index in range(6)]
    notes = look(tmp_path / 'out', photos[:3], photos[3:])
    assert notes[0].startswith('only 2 of 6 photos, at equal distances, were looked into')
    assert notes[1].startswith('2 grey')
