"""The HTML page is one self-contained file with all given titles, notes, tables and figures."""

import csv
import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest

from r2kd_mm.report import Exhibit, Summary, write_page
from r2kd_mm.report.figures import Line, Panel, draw_curves
from r2kd_mm.report.page import to_csv
from r2kd_mm.report.style import styles

NAME = '<b>R2KD</b> & more'
PANEL = Panel('', 'epoch', 'accuracy (%)', {NAME: Line(np.array([1, 2]), np.array([[1.0, 2.0]]))})
EXHIBIT = Exhibit(
    'accuracy',
    'Accuracy',
    f'That of {NAME}.',
    partial(draw_curves, [PANEL], styles([NAME])),
    ['epoch', 'x'],
    [(1, 0.5)],
)
SUMMARY = Summary(['method', 'ECE, %'], [[NAME, '3.00']], [[NAME, 3.0]])


class Outline(HTMLParser):
    """The files that a page loads and the links that it has."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.loaded, self.links, self.text = [], [], [], ''
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.append(attributes.get('id'))
        self.links += [attributes['href']] if tag == 'a' else []
        self.loaded += [tag] if tag in ('script', 'link', 'iframe', 'img') or 'src' in attributes else []

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(tmp_path):
    return write_page(tmp_path / 'new' / 'page', 'A title', 'A subtitle', SUMMARY, [EXHIBIT], ['A note.']).read_text()


def test_the_page_needs_no_other_file(page, tmp_path):
    outline = Outline(page)
    assert outline.loaded == []
    assert not re.search(r'url\((?!#)|@import', page)
    folder = tmp_path / 'new' / 'page'
    for link in outline.links:
        assert link[1:] in outline.ids if link.startswith('#') else (folder / link).is_file()
    assert sorted(path.name for path in folder.iterdir()) == [
        'accuracy.csv', 'accuracy.png', 'index.html', 'summary.csv'
    ]  # fmt: skip


def test_the_page_shows_titles_captions_notes_and_the_table_and_escapes_names(page):
    outline = Outline(page)
    for text in ('A title', 'A subtitle', 'A note.', 'Accuracy', f'That of {NAME}.', NAME, '3.00', 'ECE, %'):
        assert text in outline.text
    assert '<b>' not in page
    assert page.count('<svg') == 1


def test_the_page_has_a_dark_theme_and_one_for_print(page):
    assert '@media (prefers-color-scheme: dark)' in page
    assert '@media print' in page


def test_the_same_runs_give_the_same_files(page, tmp_path):
    again = write_page(tmp_path / 'again', 'A title', 'A subtitle', SUMMARY, [EXHIBIT], ['A note.'])
    assert again.read_text() == page
    for name in ('accuracy.png', 'accuracy.csv', 'summary.csv'):
        assert (tmp_path / 'again' / name).read_bytes() == (tmp_path / 'new/page' / name).read_bytes()


def test_numbers_are_written_so_that_they_can_be_read(tmp_path):
    path = tmp_path / 'x.csv'
    path.write_text(to_csv(['name', 'value'], [('a, "b"', 1 / 3), ('c', 7)]))
    with path.open() as file:
        assert list(csv.reader(file)) == [['name', 'value'], ['a, "b"', '0.333333'], ['c', '7']]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match="file/page' cannot be written.*give another by --out"):
        write_page(tmp_path / 'file' / 'page', '', '', SUMMARY, [EXHIBIT], [])
