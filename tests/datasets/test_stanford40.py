"""Stanford 40 Actions: the labels follow the order of actions.txt."""

from pathlib import Path

import pytest

from r2kd_mm.datasets import Stanford40


def test_labels_follow_actions_txt_below_its_heading(own_mini):
    root = own_mini('stanford40')
    heading, *actions = (root / 'ImageSplits/actions.txt').read_text().splitlines()
    (root / 'ImageSplits/actions.txt').write_text('\n'.join([heading, *actions[::-1]]))
    dataset = Stanford40(str(root), 'test')
    assert dataset.metainfo['classes'] == ('doing_03', 'doing_02', 'doing_01', 'doing_00')
    for info in map(dataset.get_data_info, range(len(dataset))):
        assert Path(info['img_path']).name.startswith(dataset.metainfo['classes'][info['gt_label']])


def test_an_action_without_a_list_is_refused(own_mini):
    root = own_mini('stanford40')
    (root / 'ImageSplits/doing_02_test.txt').unlink()
    with pytest.raises(FileNotFoundError, match='ImageSplits/doing_02_test.txt, the list of an action .* is missing'):
        Stanford40(str(root), 'test')


def test_an_empty_list_of_actions_is_refused(own_mini):
    root = own_mini('stanford40')
    (root / 'ImageSplits/actions.txt').write_text('')
    with pytest.raises(ValueError, match='found 0 classes and 0 train images, expected 4 and 12'):
        Stanford40(str(root), 'train')
