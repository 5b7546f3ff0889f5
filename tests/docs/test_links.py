"""Links between the documents lead somewhere, and pictures are there."""

import re
from pathlib import Path

import documents
import pytest
import toolbox


@pytest.mark.parametrize('page', documents.PAGES, ids=documents.name)
def test_every_relative_link_leads_to_a_file_and_to_one_of_its_headings(page):
    for link in documents.links(page):
        if link.startswith(('https://', 'http://')):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f'{link}: there is no {target}'
        assert target.is_relative_to(toolbox.ROOT), f'{link} leads out of the repository'
        if anchor:
            assert anchor in documents.anchors(target), f'{link}: {path} has the headings {documents.anchors(target)}'


def test_every_page_of_the_documentation_is_reached_from_its_index():
    docs = toolbox.ROOT / 'docs'
    linked = {(docs / link.partition('#')[0]).resolve() for link in documents.links(docs / 'index.md')}
    files = dict(overview='README.md', changelog='CHANGELOG.md', contributing='CONTRIBUTING.md')
    included = {docs / f'{page}.md': toolbox.ROOT / file for page, file in files.items()}
    pages = {included.get(page, page) for page in docs.glob('*.md')} - {docs / 'index.md'}
    assert pages <= linked, f'docs/index.md has no link to {sorted(map(str, pages - linked))}'


@pytest.mark.parametrize('folder', ['measurements', 'reference'])
def test_every_page_of_a_folder_is_reached_from_its_index(folder):
    index = toolbox.ROOT / 'docs' / folder / 'index.md'
    entries = set(re.findall(r'^[\w-]+$', index.read_text(), re.MULTILINE))  # of the table of contents
    assert {page.stem for page in index.parent.glob('*.md')} - {'index'} <= entries


def test_every_picture_is_shown_somewhere():
    shown = {(page.parent / link).resolve() for page in documents.PAGES for link in documents.links(page)}
    pictures = set((toolbox.ROOT / 'docs/images').iterdir())
    assert pictures <= shown, f'no page shows {sorted(map(str, pictures - shown))}'


def test_every_part_of_the_package_has_a_page_in_the_reference():
    parts = {folder.name for folder in Path(toolbox.ROOT, 'r2kd_mm').iterdir() if (folder / '__init__.py').is_file()}
    pages = {page.stem for page in Path(toolbox.ROOT, 'docs/reference').glob('*.md')}
    assert parts <= pages, f'docs/reference has no page about {sorted(parts - pages)}'
