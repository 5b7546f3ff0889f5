import photos
import pytest


@pytest.mark.parametrize('as_table', [False, True])
def test_a_tree_of_links_is_listed_and_decoded(tmp_path, as_table):
    photos.make_tree(tmp_path, 100, classes=3, sources=7)
    source = photos.write_table(tmp_path) if as_table else tmp_path / 'photos'
    found = photos.measure(source, tmp_path / 'out')
    assert found['photos'] == 100
    assert found['list_seconds'] > 0 < found['decode_seconds']
    assert len({path.stat().st_ino for path in (tmp_path / 'photos' / 'train').rglob('*.jpg')}) == 7
    assert (tmp_path / 'out' / 'pictures.json').is_file()
