"""A label outside the range of the head is named before the first step, wherever it is in the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import toolbox
import toys
from mmpretrain.datasets import BaseDataset
from PIL import Image

from r2kd_mm.registry import DATASETS

IMAGES = 6


@DATASETS.register_module(force=True)
class ListedImages(BaseDataset):
    """Images of one colour with the labels that are given, and class names that say nothing."""

    METAINFO = dict(classes=None)

    def __init__(self, folder: str, labels: list, **fields) -> None:
        self.folder, self.labels = Path(folder), labels
        super().__init__(ann_file='', **fields)

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=str(self.folder / f'{i}.png'), gt_label=label) for i, label in enumerate(self.labels)]


@pytest.fixture
def folder(tmp_path) -> Path:
    for index in range(IMAGES):
        Image.new('RGB', (8, 8), (20 * index, 0, 0)).save(tmp_path / f'{index}.png')
    return tmp_path


def runner(folder: Path, train_labels: list, val_labels: list):
    def loader(labels: list, **fields) -> dict:
        pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
        return dict(
            dataset=dict(type='ListedImages', folder=str(folder), labels=labels, pipeline=pipeline, **fields),
            batch_size=3,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
        )

    return toys.runner(
        toys.classifier(data_preprocessor=dict(mean=[127.0] * 3, std=[60.0] * 3)),
        folder / 'work',
        hooks=[dict(type='DataCheckHook')],
        train_cfg=dict(type='ResumableTrainLoop', max_epochs=1),
        train_dataloader=loader(train_labels),
        val_dataloader=loader(val_labels, test_mode=True),
    )


GOOD = [0, 1, 2, 3, 4, 0]
OUT_OF_RANGE = (-1, 5, 2**40, [1, 5], 4.5, 'cat')


@pytest.mark.parametrize('split', toolbox.quick_first(['train', 'val']))
def test_every_label_out_of_range_is_named_before_the_first_step(split, folder, count):
    named = 0
    for place, label in enumerate(OUT_OF_RANGE):
        bad = [*GOOD[:place], label, *GOOD[place + 1 :]]
        run = runner(folder, *((bad, GOOD) if split == 'train' else (GOOD, bad)))
        with pytest.raises(ValueError) as error:
            run.train()
        assert str(error.value).startswith(
            f'{split}_dataloader has a label out of range: sample {place} ({folder}/{place}.png) has the label '
            f'{label}, and num_classes=5 of the head allows 0 to 4'
        )
        assert run.iter == 0
        named += 1
    count(f'labels: {named} of {len(OUT_OF_RANGE)} labels out of range named, {split} set')


def test_good_labels_pass(folder):
    run = runner(folder, GOOD, GOOD)
    run.train()
    assert run.iter == IMAGES / 3
