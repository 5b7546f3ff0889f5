"""A folder of photos is listed and split, or refused, before anything is trained."""

import re

import pytest

from r2kd_mm.datasets import ImageFolder
from r2kd_mm.photos.folder import look_at_photos, refuse_within


def write(root, counts, ending='.jpg', start=0):
    """Files that differ from each other: nothing here decodes them."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(start, start + count):
            (root / name / f'{index}{ending}').write_bytes(f'{root.name} {name} {index}'.encode())


@pytest.fixture
def photos(tmp_path):
    return tmp_path / 'photos'


def test_a_validation_folder_is_taken_as_it_is(photos, tmp_path):
    write(photos / 'train', dict(cat=4, dog=3))
    write(photos / 'valid', dict(cat=2, dog=1))
    found = look_at_photos(photos, tmp_path / 'out')
    assert (found.root, found.train, found.val, found.classes) == (photos, 'train', 'valid', ('cat', 'dog'))
    assert found.counts == dict(cat=(4, 2), dog=(3, 1))
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('below', ['', 'train'])
def test_without_one_a_part_of_each_class_is_set_aside(photos, tmp_path, below):
    write(photos / below, {'a cat': 10, 'dog': 5, 'eel': 2})
    out = tmp_path / 'out'
    found = look_at_photos(photos, out, val_split=0.2, seed=1)
    assert found.counts == {'a cat': (8, 2), 'dog': (4, 1), 'eel': (1, 1)}
    train, val = (ImageFolder(str(found.root), split, lazy_init=False) for split in ('train', 'val'))
    assert (len(train), len(val)) == (13, 4)
    assert train.metainfo['classes'] == val.metainfo['classes'] == found.classes
    listed = [[part.get_data_info(index)['img_path'] for index in range(len(part))] for part in (train, val)]
    files = [{re.sub('.*/(train|val)/', '', path) for path in paths} for paths in listed]
    assert not files[0] & files[1]
    assert 'no validation folder: 4 images are set aside, 20% of each class (seed 1)' in found.notes[0]

    write(photos / below, {'dog': 3}, start=20)
    assert look_at_photos(photos, out, val_split=0.5, seed=2, keep=True).counts == found.counts
    assert look_at_photos(photos, out, val_split=0.5, seed=2).counts['dog'] == (4, 4)


def test_a_file_name_may_hold_any_separator_but_a_newline(photos, tmp_path):
    write(photos, {'cat': 2, 'dog\u2028or wolf': 2}, ending='\u2028.jpg')
    out = tmp_path / 'out'
    found = look_at_photos(photos, out, val_split=0.5)
    assert found.counts == {'cat': (1, 1), 'dog\u2028or wolf': (1, 1)}
    assert look_at_photos(photos, out, val_split=0.5, keep=True).counts == found.counts
    data = ImageFolder(str(found.root), 'train', lazy_init=False)
    assert data.metainfo['classes'] == found.classes
    assert len(data) == 2


@pytest.mark.parametrize('below', ['', 'train', 'val'])
def test_the_digest_tells_other_photos_and_classes(photos, tmp_path, below):
    write(photos / below, dict(cat=4, dog=3))
    if below == 'val':
        write(photos / 'train', dict(cat=4, dog=3, eel=3))
    digests = [look_at_photos(photos, tmp_path / 'out').digest]
    digests.append(look_at_photos(photos, tmp_path / 'out', val_split=0.5, keep=True).digest)
    write(photos / below, dict(cat=1), start=9)
    digests.append(look_at_photos(photos, tmp_path / 'out', keep=True).digest)
    write(photos / below, dict(eel=2))
    digests.append(look_at_photos(photos, tmp_path / 'out', keep=True).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_seed_decides_which_ones(photos, tmp_path):
    write(photos, dict(cat=20, dog=20))
    lists = []
    for number, seed in enumerate((0, 0, 1)):
        look_at_photos(photos, tmp_path / str(number), seed=seed)
        lists.append((tmp_path / str(number) / 'meta' / 'val.txt').read_text())
    assert lists[0] == lists[1] != lists[2]


def test_copies_are_not_set_aside(photos, tmp_path):
    write(photos, dict(cat=4, dog=4))
    for index in range(3):
        (photos / 'cat' / f'{index}.jpg').write_bytes(b'the same')
    look_at_photos(photos, tmp_path / 'out', val_split=0.5)
    assert 'cat/3.jpg 0' in (tmp_path / 'out' / 'meta' / 'val.txt').read_text()
    assert (tmp_path / 'out' / 'meta' / 'val.txt').read_text().count('cat/') == 1


@pytest.mark.parametrize('name', ['Val', 'Valid', 'VALIDATION', 'Test', 'testing'])
def test_a_validation_folder_may_have_capitals(photos, tmp_path, name):
    write(photos / 'train', dict(cat=4, dog=3))
    write(photos / name, dict(cat=2, dog=1))
    found = look_at_photos(photos, tmp_path / 'out')
    assert (found.val, found.counts) == (name, dict(cat=(4, 2), dog=(3, 1)))


@pytest.mark.parametrize('names', [('Training', 'Testing'), ('Train', 'Val'), ('training', 'val')])
def test_a_training_folder_of_another_name_is_no_class(photos, tmp_path, names):
    for name in names:
        write(photos / name, dict(cat=4, dog=3))
    with pytest.raises(ValueError, match=f"{names[0]}' would be taken for a class; rename it to 'train'"):
        look_at_photos(photos, tmp_path / 'out')


def test_validation_images_among_the_training_images_are_refused(photos, tmp_path):
    write(photos / 'train', dict(cat=3, dog=3))
    write(photos / 'val', dict(cat=2, dog=2))
    (photos / 'val' / 'dog' / 'copy.jpg').write_bytes((photos / 'train' / 'dog' / '1.jpg').read_bytes())
    message = r"1 validation images are byte for byte training images too, such as '.*copy\.jpg' and '.*1\.jpg'"
    with pytest.raises(ValueError, match=message):
        look_at_photos(photos, tmp_path / 'out')
    assert look_at_photos(photos, tmp_path / 'out', allow_duplicates=True).num_val == 5


def test_what_a_user_should_know_is_noted(photos, tmp_path):
    write(photos / 'train', dict(cat=40, dog=3, eel=3))
    write(photos / 'val', dict(cat=2, dog=2))
    notes = look_at_photos(photos, tmp_path / 'out').notes
    assert re.search('1 classes have no validation image: eel', notes[0])
    assert notes[1].startswith('4 validation images say little: an accuracy of 50 % has the 95 % interval [15, 85]')
    assert "3 training images of 'dog', 40 of 'cat'" in notes[2]


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({}, 'has 0 folders of classes'),
        ({'cat/1.jpg': ''}, 'has 1 folders of classes, and at least 2 are needed'),
        ({'cat/1.txt': '', 'dog/1.txt': ''}, 'there is no image in '),
        ({'cat/1.jpg': '', 'dog/1.heic': ''}, r"no image in the class folder '.*dog', only files that end in \.heic"),
        ({'cat/1.jpg': '', 'cat/2.jpg': 'x', 'dog/1.jpg': 'y'}, r"class 'dog' has 1 image that .* at least 2"),
        (
            {'train/cat/1.jpg': 'a', 'train/dog/1.jpg': 'b', 'val/cow/1.jpg': 'c'},
            r"val' has 1 classes that '.*train' lacks: 'cow'",
        ),
    ],
)
def test_refuses_what_cannot_be_trained_on(photos, tmp_path, files, message):
    photos.mkdir()
    for name, content in files.items():
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        look_at_photos(photos, tmp_path / 'out')
    assert not (tmp_path / 'out' / 'meta').exists()


@pytest.mark.parametrize(
    ('below', 'out', 'refused'),
    [
        ('', 'runs', True),
        ('', 'cat/runs', True),
        ('', '', True),
        ('', '.runs', False),
        ('', '../runs', False),
        ('train', 'runs', False),
        ('train', 'train/runs', True),
        ('train', 'Val/runs', True),
    ],
)
def test_refuses_an_output_folder_among_the_photos(photos, below, out, refused):
    write(photos / below, dict(cat=1, dog=1))
    if refused:
        with pytest.raises(ValueError, match='lies among the photos .* give a folder outside'):
            refuse_within(photos / out, photos)
    else:
        refuse_within(photos / out, photos)


def test_refuses_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder '.*nowhere'; expected PHOTOS/train/<class>"):
        look_at_photos(tmp_path / 'nowhere', tmp_path / 'out')
