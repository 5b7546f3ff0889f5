"""A table of photos is read, or an error names the wrong line."""

import re

import pytest

from r2kd_mm.datasets import ImageFolder
from r2kd_mm.photos.folder import look_at_photos
from r2kd_mm.photos.layout import read_folder, read_table


@pytest.fixture
def table(tmp_path):
    """Writes a table next to photos."""
    (tmp_path / 'shots').mkdir()
    for name in 'abcdef':
        (tmp_path / 'shots' / f'{name}.jpg').write_bytes(name.encode())

    def write(text, name='photos.csv'):
        (tmp_path / name).write_text(text, encoding='utf-8')
        return tmp_path / name

    return write


ROWS = 'path,label,split\nshots/a.jpg,dog,train\nshots/b.jpg,a cat,train\nshots/c.jpg,dog,val\n'


@pytest.mark.parametrize(
    ('text', 'name'),
    [
        (ROWS, 'photos.csv'),
        ('\ufeff' + ROWS.replace('\n', '\r\n') + '\r\n,,\r\n', 'photos.CSV'),
        (ROWS.replace(',', '\t'), 'photos.tsv'),
        (
            'Split,Label,Path\nTraining,dog,shots/a.jpg\ntrain,a cat,shots/b.jpg\ntest, dog,"shots/c.jpg"\n',
            'a.csv',
        ),
    ],
)
def test_a_table_gives_labels_and_parts(table, text, name):
    found = read_table(table(text, name))
    assert found.train.files == {'a cat': ['shots/b.jpg'], 'dog': ['shots/a.jpg']}
    assert found.val.files == {'dog': ['shots/c.jpg']}
    assert found.unlabelled is None


def test_the_training_reads_the_labels_of_the_table(table, tmp_path):
    path = table(ROWS)
    found = look_at_photos(path, tmp_path / 'out', allow_duplicates=True)
    assert found.classes == ('a cat', 'dog')
    assert found.counts == {'a cat': (1, 0), 'dog': (1, 1)}
    for split, expected in (('train', {'b.jpg': 0, 'a.jpg': 1}), ('val', {'c.jpg': 1})):
        data = ImageFolder(str(found.root), split)
        infos = [data.get_data_info(index) for index in range(len(data))]
        assert {info['img_path'].split('/')[-1]: info['gt_label'] for info in infos} == expected
        assert data.metainfo['classes'] == found.classes


def test_without_a_split_a_part_is_set_aside(table, tmp_path):
    rows = ''.join(f'shots/{name}.jpg,{"cat" if name < "d" else "dog"}\n' for name in 'abcdef')
    found = look_at_photos(table('path,label\n' + rows), tmp_path / 'out', val_split=0.3)
    assert found.counts == dict(cat=(2, 1), dog=(2, 1))
    assert 'has no validation photos: 2 images are set aside' in found.notes[0]


def test_photos_without_labels(table, tmp_path):
    path = table(ROWS + 'shots/d.jpg,,unlabelled\nshots/e.jpg,dog,unlabeled\n')
    assert read_table(path).unlabelled.files == ['shots/d.jpg', 'shots/e.jpg']
    found = look_at_photos(path, tmp_path / 'out')
    assert (tmp_path / 'out' / 'meta' / 'unlabelled.txt').read_text() == 'shots/d.jpg\nshots/e.jpg\n'
    assert found.unlabelled.paths == [f'{tmp_path}/shots/{name}.jpg' for name in 'de']


@pytest.mark.parametrize(
    ('text', 'line', 'message'),
    [
        ('', 0, "expected a header with the columns path,label[,split], each once, got ''"),
        ('shots/a.jpg,dog\n', 1, 'expected a header with the columns path,label[,split]'),
        ('path;label\nshots/a.jpg;dog\n', 1, "got 'path;label'"),
        ('path,label,label\n', 1, 'each once'),
        ('path,label\nshots/a.jpg,dog\n\nshots/b.jpg\n', 4, "expected 2 cells (path,label), got 1: 'shots/b.jpg'"),
        ('path,label\nshots/a.jpg,dog,x\n', 2, 'expected 2 cells (path,label), got 3'),
        ('path,label\nshots/a.jpg,\n', 2, "'shots/a.jpg' has no label; give it one, or the split unlabelled"),
        ('path,label\nshots/z.jpg,dog\n', 2, "there is no image '"),
        ('path,label\nshots/a.heic,dog\n', 2, "'shots/a.heic' is no image; images end in .bmp"),
        ('path,label\nshots/a.jpg,dog\nshots/a.jpg,cat\n', 3, "'shots/a.jpg' stands in line 2 too"),
        ('path,label\nshots/a.jpg,dog\n./shots//a.jpg,cat\n', 3, "'./shots//a.jpg' stands in line 2 too"),
        ('path,label\nshots/a.jpg,"a\ndog"\n', 3, r"the label 'a\ndog' has several lines; a label is one line of text"),
        ('path,label,split\nshots/a.jpg,dog,dev\n', 2, "split must be one of train, val, unlabelled, got 'dev'"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(table, text, line, message):
    with pytest.raises(ValueError, match=re.escape(f"photos.csv', line {line}: ") + '.*' + re.escape(message)):
        read_table(table(text))


def test_a_table_of_one_class_and_one_of_other_classes_is_refused(table, tmp_path):
    with pytest.raises(ValueError, match='has 1 classes to train on, and at least 2'):
        read_table(table('path,label\nshots/a.jpg,dog\n'))
    path = table(ROWS + 'shots/d.jpg,eel,val\n')
    with pytest.raises(ValueError, match="split val has 1 classes that split train lacks: 'eel'; .* the same labels"):
        look_at_photos(path, tmp_path / 'out')


@pytest.mark.parametrize('below', ['', 'train'])
def test_a_folder_of_unlabelled_photos_is_no_class(tmp_path, below):
    for name in ('cat/1', 'cat/2', 'dog/1', 'dog/2'):
        (tmp_path / below / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / below / f'{name}.jpg').write_text(name)
    (tmp_path / 'Unlabeled' / 'deep').mkdir(parents=True)
    (tmp_path / 'Unlabeled' / 'deep' / 'x.jpg').write_text('x')
    found = read_folder(tmp_path)
    assert list(found.train.files) == ['cat', 'dog']
    assert found.unlabelled.files == ['deep/x.jpg']


def test_unlabelled_photos_that_are_left_out_for_others_are_named(tmp_path):
    for name in ('photos/cat/1', 'photos/cat/2', 'photos/dog/1', 'photos/dog/2', 'photos/unlabelled/x', 'more/y'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f'{name}.jpg').write_text(name)
    photos, more = tmp_path / 'photos', tmp_path / 'more'
    found = look_at_photos(photos, tmp_path / 'out', unlabelled=more)
    assert found.unlabelled.files == ['y.jpg']
    said = f"--unlabelled '{more}' takes the place of the 1 photos without labels among '{photos}'; put all into one"
    assert [note for note in found.notes if note.startswith(said)]
    found = look_at_photos(photos, tmp_path / 'out')
    assert not any('--unlabelled' in note for note in found.notes)


def test_a_validation_folder_among_the_classes_is_refused(tmp_path):
    for name in ('cat/1', 'dog/2', 'Val/cat/3', 'test/4'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f'{name}.jpg').write_text(name)
    with pytest.raises(ValueError, match="Val' would be taken for a class, and has folders of classes; put the others"):
        read_folder(tmp_path)
    (tmp_path / 'Val').rename(tmp_path / 'eel')  # a class with folders of its own
    assert list(read_folder(tmp_path).train.files) == ['cat', 'dog', 'eel', 'test']


def test_unlabelled_photos_among_the_validation_photos_are_refused(table, tmp_path):
    (tmp_path / 'more').mkdir()
    (tmp_path / 'more' / 'x.jpg').write_bytes(b'c')
    with pytest.raises(ValueError, match='1 validation images are byte for byte unlabelled images too'):
        look_at_photos(table(ROWS), tmp_path / 'out', unlabelled=tmp_path / 'more')
