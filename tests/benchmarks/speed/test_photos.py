import photos


def test_a_tree_of_links_is_listed(tmp_path):
    photos.make_tree(tmp_path, 100, classes=3, sources=7)
    found = photos.measure(tmp_path)
    assert found['photos'] == 100
    assert found['seconds'] > 0
    assert len({path.stat().st_ino for path in (tmp_path / 'photos' / 'train').rglob('*.jpg')}) == 7
