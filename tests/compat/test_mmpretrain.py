"""The fixes for mmpretrain's data sets; tests/compose covers the fixes for its networks."""

import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image

from r2kd_mm.compat import MisnamedClasses
from r2kd_mm.registry import DATASETS


def class_folders(folder, **changes):
    """Solid images: b is red, c is blue; and the fields of a data set of them."""
    for name, colour in (('b red', 'red'), ('C_blue', 'blue')):
        (folder / 'images' / name).mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), colour).save(folder / 'images' / name / '0.png')
    return dict(dict(data_root=str(folder), data_prefix='images'), **changes)


class TestClassNames:
    @pytest.mark.parametrize('classes', [['c-blue', 'B Red'], ['water', 'fire'], None])
    def test_names_in_the_order_of_the_folders_and_names_of_another_kind_pass(self, classes, tmp_path):
        dataset = CustomDataset(**class_folders(tmp_path, classes=classes))
        assert list(dataset.CLASSES) == (classes or ['C_blue', 'b red'])

    def test_names_in_another_order_than_the_folders_are_refused(self, tmp_path):
        message = (
            r"label 0 is the folder 'C_blue', and classes calls it 'b red'; give classes=\['C_blue', 'b red'\], or"
        )
        with pytest.raises(MisnamedClasses, match=message):
            CustomDataset(**class_folders(tmp_path, classes=['b red', 'C_blue']))
        dataset = dict(
            type='mmpretrain.CustomDataset', **class_folders(tmp_path, metainfo=dict(classes=['b red', 'C_blue']))
        )
        with pytest.raises(MisnamedClasses, match=message):
            DATASETS.build(dict(type='RepeatDataset', dataset=dataset, times=2))

    def test_names_in_another_order_than_an_annotation_file_are_refused(self, tmp_path):
        (tmp_path / 'list.txt').write_text('b red/0.png 0\nC_blue/0.png 1\n')
        fields = class_folders(tmp_path, ann_file='list.txt')
        assert CustomDataset(**fields, classes=['b red', 'C_blue']).get_data_info(1)['gt_label'] == 1
        with pytest.raises(MisnamedClasses, match="label 0 is the folder 'b red', and classes calls it 'C_blue'"):
            CustomDataset(**fields, classes=['C_blue', 'b red'])

    def test_folders_that_are_no_classes_say_nothing(self, tmp_path):
        for name in ('train', 'other'):
            (tmp_path / 'images' / name).mkdir(parents=True)
        (tmp_path / 'list.txt').write_text('train/0.png 0\ntrain/1.png 1\nother/2.png 1\n')
        dataset = CustomDataset(str(tmp_path), 'images', 'list.txt', classes=['ship', 'train'])
        assert dataset.CLASSES == ('ship', 'train')
