import json
import statistics

import loader
import pytest
import toolbox
import torch
from mmpretrain.datasets import CustomDataset

CONFIG = toolbox.ROOT / 'configs' / 'r2kd' / 'r2kd_vgg13_mv2_tiny-imagenet.py'
SCRIPT = '../benchmarks/speed/loader.py'


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp('loader')
    made = toolbox.run_forked('dataset_converters/make_mini.py', 'tiny_imagenet', folder / 'mini', '--train', '3')
    assert made.returncode == 0, made.stderr
    out = folder / 'loader.json'
    option = f'train_dataloader.dataset.data_root={folder / "mini"}'
    finished = toolbox.run_forked(
        SCRIPT,
        CONFIG,
        '--rounds',
        '2',
        '--workers',
        '0',
        '1',
        '--out',
        out,
        '--cfg-options',
        option,
    )
    assert finished.returncode == 0, finished.stderr
    assert out.with_suffix('.md').read_text() in finished.stdout
    return json.loads(out.read_text())


def test_each_loader_is_compared_with_the_bare_one_of_as_many_workers(result):
    assert set(result['workers']) == {'0', '1'}
    for cases in result['workers'].values():
        assert set(cases) == {loader.SEEDED, loader.UNSEEDED, loader.BARE}
        bare = statistics.median(cases[loader.BARE]['seconds'])
        for case in cases.values():
            assert case['to_bare']['ratio'] == statistics.median(case['seconds']) / bare
            assert case['images_per_second']['median'] == pytest.approx(
                statistics.median(result['images'] / seconds for seconds in case['seconds'])
            )


def test_every_stage_of_the_pipeline_has_its_share(result):
    assert result['images'] == 30
    assert list(result['stages']) == [
        'sample',
        'LoadImageFromFile',
        'RandomCrop',
        'RandomFlip',
        'PackInputs',
        'collate',
        'seeding',
    ]
    assert sum(stage['share'] for stage in result['stages'].values()) == pytest.approx(1)
    assert min(stage['seconds'] for stage in result['stages'].values()) > 0


@pytest.fixture
def images(tmp_path):
    """A data set of one image, which is no square."""

    def dataset(*pipeline):
        cv2 = pytest.importorskip('cv2')
        (tmp_path / 'label').mkdir()
        image = torch.arange(6 * 4 * 3, dtype=torch.uint8).reshape(6, 4, 3).numpy()
        cv2.imwrite(str(tmp_path / 'label' / 'image.png'), image)
        return CustomDataset(data_root=str(tmp_path), pipeline=[dict(type='LoadImageFromFile'), *pipeline])

    return dataset


def test_the_bare_data_set_gives_the_same_pixels_in_rgb(images):
    dataset = images(dict(type='RandomCrop', crop_size=(6, 4)), dict(type='PackInputs'))
    image, label = loader.BareDataset(dataset)[0]
    ours = dataset[0]
    assert torch.equal(image, ours['inputs'].flip(0))
    assert label == ours['data_samples'].gt_label.item()


def test_a_transform_without_a_counterpart_is_named(images):
    dataset = images(dict(type='ColorJitter'), dict(type='PackInputs'))
    with pytest.raises(ValueError, match='no transform of torchvision is known here for ColorJitter'):
        loader.BareDataset(dataset)
