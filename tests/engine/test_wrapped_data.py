"""The pipeline of a data set is found even inside wrappers such as ConcatDataset."""

import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmpretrain.datasets import CenterCrop, LoadImageFromFile, PackInputs
from torch.utils import data

from r2kd_mm.datasets import Digits
from r2kd_mm.engine.wrapped_data import data_info, data_preprocessor_of, gives_bgr, innermost_datasets, shared_pipeline

FILES = [dict(type=LoadImageFromFile), dict(type=CenterCrop, crop_size=32), dict(type=PackInputs)]
SAME = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='mmpretrain.datasets.transforms.processing.CenterCrop', crop_size=32),
    dict(type='PackInputs'),
]
MEMORY = [dict(type='PackInputs')]


def loader(*pipelines):
    """The first data set alone in three wrappers, the others joined to it."""
    first, *others = (dict(type='CustomDataset', pipeline=pipeline) for pipeline in pipelines)
    fold = dict(type='KFoldDataset', dataset=first)
    return dict(
        dataset=dict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=2, dataset=fold), *others])
    )


def test_the_pipeline_comes_from_the_wrapped_data_sets():
    expected = [dict(type='LoadImageFromFile'), dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]
    assert shared_pipeline(loader(FILES, SAME)) == expected
    assert len(innermost_datasets(loader(FILES, SAME)['dataset'])) == 2


def test_data_sets_that_prepare_their_images_differently_are_named():
    other = [FILES[0], dict(type='CenterCrop', crop_size=64), FILES[2]]
    message = (
        r'data sets of val_dataloader do not .* number 0 \(CustomDataset\) by .*crop_size=32, PackInputs, '
        r'number 1 \(CustomDataset\) by .*crop_size=64'
    )
    with pytest.raises(ValueError, match=message):
        shared_pipeline(loader(FILES, other), 'val_dataloader')


def test_a_data_set_that_does_not_say_how_it_prepares_its_images_is_named():
    with pytest.raises(ValueError, match='the config of MyImages has no pipeline; write its pipeline into the config'):
        shared_pipeline(dict(dataset=dict(type='RepeatDataset', dataset=dict(type='MyImages'))))


@pytest.mark.parametrize(('pipeline', 'flip', 'bgr'), [(FILES, {}, True), (MEMORY, {}, False)])
@pytest.mark.parametrize('flips', [{}, dict(to_rgb=True), dict(bgr_to_rgb=True)])
def test_files_are_bgr_and_images_in_memory_rgb_until_they_are_flipped(pipeline, flip, bgr, flips):
    assert gives_bgr(loader(pipeline), flips) == (bgr != bool(flips))


def test_channels_of_files_and_of_memory_are_not_mixed():
    with pytest.raises(ValueError, match='some data sets of the data loader read files, as BGR, and others hold RGB'):
        gives_bgr(loader(FILES, MEMORY), {})


def test_built_data_sets_are_unwrapped_too():
    digits = Digits(split='test', pipeline=MEMORY)
    wrapped = ConcatDataset([digits, digits])
    assert innermost_datasets(data.Subset(wrapped, [0, 1])) == [digits]
    assert not gives_bgr(dict(dataset=RepeatDataset(digits, 2)), {})
    last = len(digits) - 1
    joined = data.ConcatDataset([digits, data.Subset(digits, [last, 5])])
    expected = [digits.get_data_info(place)['sample_idx'] for place in (last, last, 5)]
    assert [data_info(joined, last + step)['sample_idx'] for step in range(3)] == expected
    assert data_info([1, 2], 0) == {}


@pytest.mark.parametrize(
    ('run', 'mean'),
    [
        (dict(data_preprocessor=dict(mean=[1]), model=dict()), [1]),
        (dict(data_preprocessor=dict(mean=[1]), model=dict(data_preprocessor=dict(mean=[2]))), [2]),
        (dict(model=dict(architecture=dict(data_preprocessor=dict(mean=[3])))), [3]),
        (dict(model=dict(architecture=dict(architecture=dict(data_preprocessor=dict(mean=[4]))))), [4]),
        (dict(data_preprocessor=dict(mean=[1]), model=dict(architecture=dict(data_preprocessor=dict(mean=[3])))), [1]),
        (dict(model=dict(architecture=dict())), None),
    ],
    ids=str,
)
def test_the_preparation_of_a_run_is_found_where_the_runner_would_take_it_from(run, mean):
    assert data_preprocessor_of(run).get('mean') == mean
