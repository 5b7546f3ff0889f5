"""One name finds a network of any library, with a head of the right size and its image preprocessing."""

import re

import pytest
import torch
import toys
from mmengine.registry import DefaultScope

from r2kd_mm.classifiers import classifier_logits, num_classes
from r2kd_mm.networks import Inputs, find_network
from r2kd_mm.registry import MODELS

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def built(found):
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        return MODELS.build(found.config).eval()


@pytest.fixture
def hf_folder(tmp_path):
    transformers = pytest.importorskip('transformers')
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=5)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / 'hf')
    (tmp_path / 'hf' / 'preprocessor_config.json').write_text(
        '{"size": {"height": 48, "width": 48}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], '
        '"resample": 3, "rescale_factor": 0.00392156862745098}'
    )
    return tmp_path / 'hf'


@pytest.mark.parametrize(
    ('name', 'inputs'),
    [
        ('timm/test_resnet', Inputs(160, (127.5,) * 3, (127.5,) * 3)),
        ('timm/test_vit', Inputs(160, (127.5,) * 3, (127.5,) * 3, interpolation='bicubic', fixed=True)),
        ('mmpretrain/mobilenet-v3-small-050_3rdparty_in1k', None),
        ('torchvision/squeezenet1_1', Inputs(224, *IMAGENET)),
        ('torchvision/resnet18', Inputs(224, *IMAGENET)),
        ('r2kd/cifar/resnet8', Inputs(32, *IMAGENET)),
    ],
)
def test_finds_a_network_of_each_collection(name, inputs):
    pytest.importorskip('timm')
    found = find_network(name, 7)
    network = built(found)
    side = 160 if 'vit' in name else 64
    with torch.no_grad():
        logits = classifier_logits(network, torch.randn(2, 3, side, side))
    assert logits.shape == (2, 7)
    assert num_classes(network) == 7
    if inputs is not None:
        assert found.inputs == inputs
    assert not found.runs_code


def test_reads_size_and_interpolation_of_timm_with_its_tag():
    pytest.importorskip('timm')
    found = find_network('timm/convnext_tiny.in12k_ft_in1k', 3)
    assert (found.inputs.size, found.inputs.interpolation) == (224, 'bicubic')
    assert found.inputs.mean == IMAGENET[0]
    assert found.published == 'timm/convnext_tiny.in12k_ft_in1k'


def test_reads_the_inputs_of_mmpretrain_from_its_config():
    found = find_network('mmpretrain/mobilenet-v3-small_8xb128_in1k', 3)
    assert found.inputs == Inputs(224, *IMAGENET)
    assert found.published.endswith('.pth')
    assert 'train_cfg' not in found.config
    assert 'topk' not in found.config['head']


def test_reads_a_folder_of_transformers(hf_folder):
    found = find_network(f'hf/{hf_folder}', 3)
    assert found.inputs == Inputs(48, (127.5,) * 3, (63.75,) * 3, interpolation='bicubic')
    assert classifier_logits(built(found), torch.randn(2, 3, 32, 32)).shape == (2, 3)
    pretrained = built(find_network(f'hf/{hf_folder}', 3, 'published'))  # with a new head
    assert num_classes(pretrained) == 3


def test_takes_the_student_of_a_config_file(tmp_path):
    (tmp_path / 'mine.py').write_text(
        f'model = dict(type="LogitDistiller", architecture={toys.classifier()!r}, teacher=None, losses=dict())\n'
        'data_preprocessor = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)\n'
        'val_dataloader = dict(dataset=dict(pipeline=[dict(type="CenterCrop", crop_size=24)]))\n'
    )
    found = find_network(str(tmp_path / 'mine.py'), 9)
    assert num_classes(built(found)) == 9
    assert found.inputs == Inputs(24, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert found.runs_code


def test_random_weights_are_random_in_every_part(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "pretrained = dict(type='Pretrained', checkpoint='nowhere.pth')\n"
        "normal = dict(type='Normal', layer='Linear', std=0.5)\n"
        "model = dict(type='ImageClassifier', pretrained='nowhere.pth', init_cfg=pretrained,\n"
        "    backbone=dict(type='ResNet', depth=18, init_cfg=[pretrained]),\n"
        "    neck=dict(type='GlobalAveragePooling', init_cfg=None),\n"
        "    head=dict(type='LinearClsHead', num_classes=5, in_channels=512, init_cfg=[normal, pretrained]))\n"
    )
    config = find_network(str(path), 4).config
    assert 'nowhere' not in str(config)
    assert 'init_cfg' not in config['backbone']
    assert config['neck']['init_cfg'] is None
    assert config['head']['init_cfg'] == [dict(type='Normal', layer='Linear', std=0.5)]


def test_calls_a_function_of_the_user(tmp_path, monkeypatch):
    (tmp_path / 'my_networks.py').write_text(
        'from torch import nn\n\n\ndef tiny(num_classes):\n'
        '    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = find_network('my_networks:tiny', 4)
    assert num_classes(built(found)) == 4
    assert found.runs_code


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('timm/resnet19', 'no network timm/resnet19; did you mean timm/resnet'),
        ('timm/resnet18.a1_in2k', r'did you mean timm/resnet18\.a1_in1k'),
        ('mmpretrain/mobilenet-v3-smal_8xb128_in1k', 'did you mean mmpretrain/mobilenet-v3-small'),
        ('torchvision/resnet19', 'did you mean torchvision/resnet'),
        ('r2kd/cifar/resnet21', 'did you mean r2kd/cifar/resnet.* or r2kd/cifar/resnet20'),
        ('tim/resnet18', 'did you mean timm/resnet18'),
        ('resnet18', 'A timm name such as resnet18 is timm/resnet18'),
        ('no_such_module:f', 'cannot be imported'),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_ones(name, message):
    with pytest.raises(ValueError, match=message):
        find_network(name, 3)


def test_a_network_without_published_weights_is_refused():
    with pytest.raises(ValueError, match="no weights of 'r2kd/cifar/resnet8' are published"):
        find_network('r2kd/cifar/resnet8', 3, 'published')


def test_a_missing_file_of_weights_is_refused():
    with pytest.raises(FileNotFoundError, match="no file 'nowhere.pth' of weights for 'timm/test_resnet'"):
        find_network('timm/test_resnet', 3, 'nowhere.pth')


@pytest.mark.parametrize('name', ['timm/test_resnet', 'torchvision/squeezenet1_1', 'torchvision/resnet18'])
def test_a_network_begins_from_a_file_of_another_head(name, tmp_path):
    pytest.importorskip('timm')
    trained = built(find_network(name, 11))
    torch.save(trained.state_dict(), tmp_path / 'weights.pth')
    network = built(find_network(name, 3, str(tmp_path / 'weights.pth')))
    network.init_weights()
    before, after = trained.state_dict(), network.state_dict()
    same = [key for key in after if after[key].shape == before[key].shape]
    assert len(same) >= len(after) - 2
    assert all(torch.equal(after[key], before[key]) for key in same)


@pytest.mark.parametrize(
    ('name', 'package', 'command'),
    [('timm/resnet18', 'timm', "pip install 'r2kd_mm[photos]'"), ('hf/x', 'transformers', 'pip install transformers')],
)
def test_a_missing_package_is_named_with_what_installs_it(name, package, command, monkeypatch):
    monkeypatch.setattr('r2kd_mm.networks.names.importlib.util.find_spec', lambda package: None)
    with pytest.raises(ImportError, match=re.escape(f'needs the package {package}, which is not installed: {command}')):
        find_network(name, 3)
