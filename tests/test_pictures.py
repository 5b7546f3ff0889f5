"""Saved pictures have the colours of their images, and each picture has its own file."""

import numpy as np
import pytest
import toys
from mmpretrain.datasets import CustomDataset
from PIL import Image
from torch.utils.data import ConcatDataset

SIZE = 96
COLOURS = {'a/red': (255, 0, 0), 'a/blue': (0, 0, 255), 'b/red': (255, 0, 0)}


def folder(root):
    """Data sets of a and of b: images of one name each, a colour a class."""
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.new('RGB', (SIZE, SIZE), colour).save(root / name / f'{number}.png')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmpretrain.PackInputs')]
    return [CustomDataset(str(root / part), pipeline=pipeline) for part in 'ab']


def pictures_of(dataset, tmp_path, **options):
    """Test with a last batch that is smaller than the others, and return the pictures."""
    out = tmp_path / 'out'
    show = dict(type='mmpretrain.VisualizationHook', enable=True, **{'interval': 1, 'out_dir': str(out), **options})
    loader = dict(dataset=dataset, batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False))
    fields = dict(test_dataloader=loader, test_cfg=dict(), test_evaluator=dict(type='Accuracy'))
    toys.runner(
        toys.classifier(), tmp_path / 'work', visualizer=dict(type='UniversalVisualizer'), hooks=[show], **fields
    ).test()
    return {str(path.relative_to(out)): path for path in sorted(out.rglob('*.png'))}


@pytest.mark.parametrize('joined', [True, False])
def test_a_picture_of_a_file_has_its_colours_and_lies_in_its_folders(joined, tmp_path):
    members = folder(tmp_path / 'data')
    pictures = pictures_of(ConcatDataset(members) if joined else members[0], tmp_path)
    names = COLOURS if joined else {name[2:]: colour for name, colour in COLOURS.items() if name[0] == 'a'}
    assert list(pictures) == sorted(f'{name}/{number}.png_0.png' for name in names for number in range(3))
    for name, path in pictures.items():
        corner = np.asarray(Image.open(path).convert('RGB'))[-1, -1]  # below the text
        assert tuple(corner) == names[name.rsplit('/', 1)[0]]


def test_images_in_memory_are_counted_over_all_batches(tmp_path):
    assert list(pictures_of(toys.Images(5), tmp_path, interval=2)) == ['0_0.png', '2_0.png', '4_0.png']
