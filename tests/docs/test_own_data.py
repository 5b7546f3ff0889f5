"""The CSV data set class shown in the documents reads files from spreadsheets, or names the wrong line."""

import re

import documents
import pytest
import toolbox

from r2kd_mm.registry import DATASETS


@pytest.fixture(scope='module')
def csv_images():
    """The class in the document."""
    blocks = documents.blocks(toolbox.ROOT / 'docs/own_data.md')
    (text,) = (block.text for block in blocks if block.file == 'my_data.py')
    namespace: dict = {}
    exec(text, namespace)
    yield namespace['CSVImages']
    DATASETS.module_dict.pop('CSVImages')


def read(csv_images, folder, text):
    """Path and label of each sample of a list that says ``text``."""
    (folder / 'list.csv').write_text(text, encoding='utf-8')
    dataset = csv_images(data_root=str(folder), ann_file='list.csv', metainfo=dict(classes=('cat', 'dog')))
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(info['img_path'], info['gt_label']) for info in infos]


@pytest.mark.parametrize(
    'text', ['a.jpg,dog\nb.jpg,cat\n', '\ufeffa.jpg,dog\r\nb.jpg,cat\r\n', 'a.jpg, dog\n\n"b.jpg", "cat"\n,\n  \n\n']
)
def test_blank_lines_spaces_and_the_mark_of_a_spreadsheet_are_no_matter(csv_images, text, tmp_path):
    assert read(csv_images, tmp_path, text) == [(f'{tmp_path}/a.jpg', 1), (f'{tmp_path}/b.jpg', 0)]


@pytest.mark.parametrize(
    ('text', 'line', 'got'),
    [
        ('path,class\na.jpg,dog\n', 1, 'path,class'),
        ('a.jpg,dog\n\nb.jpg,Cat\n', 3, 'b.jpg,Cat'),
        ('a.jpg,dog\nb.jpg\n', 2, 'b.jpg'),
        ('a.jpg;dog\n', 1, 'a.jpg;dog'),
        ('a.jpg,dog,0.9\n', 1, 'a.jpg,dog,0.9'),
    ],
)
def test_a_line_that_cannot_be_read_is_named(csv_images, text, line, got, tmp_path):
    message = f"/list.csv, line {line}: expected path,class with a class of ('cat', 'dog'), got '{got}'"
    with pytest.raises(ValueError, match=re.escape(message)):
        read(csv_images, tmp_path, text)
