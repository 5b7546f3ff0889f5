"""The exported Python file of a network gives bit-identical outputs."""

import importlib.util

import exports
import pytest
import torch
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import nn

from r2kd_mm.export import ExportError, network_source
from r2kd_mm.zoo import classifier_config

SHAPE = (3, 32, 32)


class Backbone(BaseBackbone):
    """One layer, and what is done with it."""

    def __init__(self, layer, call=lambda self, images: self.layer(images)):
        super().__init__()
        self.layer = layer
        self.call = call
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return (self.call(self, images),)


def classifier(backbone, channels=3):
    head = dict(type=LinearClsHead, num_classes=10, in_channels=channels)
    return ImageClassifier(backbone, dict(type=GlobalAveragePooling), head).eval()


def load(source, model, folder):
    """The network of the file, with the weights of ``model``."""
    (folder / 'network.py').write_text(source)
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    specification = importlib.util.spec_from_file_location('network', folder / 'network.py')
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.load(str(folder / 'weights.pth'))


@pytest.mark.parametrize(
    'config',
    [
        *(
            pytest.param(classifier_config(name, 10), id=name)
            for name in (
                'cifar/resnet8',
                'cifar/resnet18',
                'cifar/vgg8',
                'cifar/wrn_16_1',
                'cifar/mobilenetv2',
                'cifar/shufflenetv1',
                'cifar/shufflenetv2',
                'imagenet/mobilenetv1',
            )
        ),
        pytest.param(
            dict(
                type='ImageClassifier',
                backbone=dict(type='ResNetV1d', depth=50),  # average pooling with arguments that repr() leaves out
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=10, in_channels=2048),
            ),
            id='mmpretrain-resnetv1d',
        ),
    ],
)
def test_the_file_is_the_network(config, tmp_path):
    model = exports.random_classifier(config)
    source = network_source(model, 'A network.', SHAPE, 10, 'weights.pth')
    images = torch.randn(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(load(source, model, tmp_path)(images), model(images, mode='tensor'))
    imports = {line for line in source.splitlines() if line.startswith(('import ', 'from '))}
    assert imports == {'import torch', 'from torch import nn'}


@pytest.mark.parametrize(
    'layer',
    [
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        nn.Conv2d(3, 3, 3, padding=(2, 1), padding_mode='reflect', bias=False),
        nn.Conv2d(3, 3, 3, padding='same', dilation=2),
        nn.BatchNorm2d(3, eps=0.1, affine=False),
        nn.LeakyReLU(0.3),
    ],
    ids=str,
)
def test_every_argument_of_a_layer_is_kept(layer, tmp_path):
    model = classifier(Backbone(layer))
    del model.backbone.scale
    images = torch.randn(2, *SHAPE)
    with torch.no_grad():
        written = load(network_source(model, 'A layer.', SHAPE, 10, 'weights.pth'), model, tmp_path)
        assert torch.equal(written(images), model(images, mode='tensor'))


class Halved(nn.Module):
    """Named like no layer of torch."""

    __module__ = 'torch.nn.modules.of_somebody'  # so that it is taken for a leaf

    def forward(self, images):
        return images / 2


@pytest.mark.parametrize(
    ('backbone', 'reason'),
    [
        (Backbone(nn.ReLU(), lambda self, x: self.layer(x) if x.sum() > 0 else x), 'its path cannot be followed'),
        (Backbone(nn.ReLU(), lambda self, x: self.layer(x) * self.scale), "uses the weight 'backbone.scale' outside"),
        (Backbone(Halved()), 'its layer Halved is not one of torch.nn'),
    ],
    ids=['control flow', 'weight', 'layer'],
)
def test_a_network_that_cannot_be_written_says_why(backbone, reason):
    with pytest.raises(ExportError, match=f'{reason}.*take the format torchscript, exported or onnx'):
        network_source(classifier(backbone), 'A network.', SHAPE, 10, 'weights.pth')
