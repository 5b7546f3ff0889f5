"""Every network of the zoo equals the public one: number of parameters, weights under both names, logits."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from torch import Tensor

from r2kd_mm import zoo
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss
from r2kd_mm.registry import MODELS

SEED = 11  # of the reference logits


def drawn_weights(state: list, seed: int) -> dict[str, Tensor]:
    """Weights drawn by the rule in the reference folder's README."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, shape in state:
        if name.endswith('num_batches_tracked'):
            value = np.zeros(shape, np.int64)
        elif name.endswith('running_var') or (name.endswith('weight') and len(shape) == 1):
            value = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif len(shape) >= 2:
            value = (rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
        else:
            value = (rng.standard_normal(shape) * 0.1).astype(np.float32)
        drawn[name] = torch.from_numpy(np.asarray(value))
    return drawn


def public_weights(name: str, num_classes: int | None = None) -> dict[str, Tensor]:
    """Weights of a freshly built network under the public names."""
    return zoo.revert_state_dict(name, zoo.build_classifier(name, num_classes).state_dict(), num_classes)


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def logits(model: ImageClassifier, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(images), mode='tensor').numpy()


@pytest.fixture(scope='module')
def specification(reference_dir: Path) -> dict:
    return json.loads((reference_dir / 'zoo_keys.json').read_text())


@pytest.fixture(scope='module')
def reference_logits(reference_dir: Path) -> dict[str, np.ndarray]:
    with np.load(reference_dir / 'zoo_logits_seed11.npz') as stored:
        return dict(stored)


def test_lists_the_public_networks(specification):
    assert zoo.list_models() == sorted(specification)


@pytest.mark.parametrize('name', zoo.list_models())
def test_is_the_public_network(name, specification, reference_logits):
    public = specification[name]
    weights = drawn_weights(public['state'], SEED)
    model = zoo.build_classifier(name)
    model.load_state_dict(zoo.convert_state_dict(name, weights))

    assert sum(parameter.numel() for parameter in model.parameters()) == public['parameters']
    shape = (2, 3, public['image_size'], public['image_size'])
    images = np.random.default_rng(1000 + SEED).standard_normal(shape).astype(np.float32)
    expected = reference_logits[name]
    assert np.abs(logits(model, images) - expected).max() <= 1e-4 * np.abs(expected).max()
    assert_same(zoo.revert_state_dict(name, model.state_dict()), weights)


@pytest.mark.parametrize('name', [name for name in zoo.list_models() if not name.startswith('tiny/')])
def test_names_are_renamed_one_to_one(name):
    weights = zoo.build_classifier(name).state_dict()
    public = zoo.revert_state_dict(name, weights)
    assert len(public) == len(weights)
    assert not any(key.startswith(('backbone.', 'head.', 'layer4.conv', 'layer4.bn')) for key in public)
    assert_same(zoo.convert_state_dict(name, public), weights)


# The networks of three families once more, in NumPy and by the names of the public weights.
def convolve(x: np.ndarray, weight: np.ndarray, stride: int = 1) -> np.ndarray:
    size = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum('nihwab,oiab->nohw', windows, weight, optimize=True)


def normalise(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    scale = w[f'{name}.weight'] / np.sqrt(w[f'{name}.running_var'] + 1e-5)
    shift = w[f'{name}.bias'] - w[f'{name}.running_mean'] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def classify(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x.mean(axis=(2, 3)) @ w[f'{name}.weight'].T + w[f'{name}.bias']


def resnet8(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    x = relu(normalise(convolve(x, w['conv1.weight']), w, 'bn1'))
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        block = f'layer{stage}.0'
        y = relu(normalise(convolve(x, w[f'{block}.conv1.weight'], stride), w, f'{block}.bn1'))
        y = normalise(convolve(y, w[f'{block}.conv2.weight']), w, f'{block}.bn2')
        if stride > 1:
            x = normalise(convolve(x, w[f'{block}.downsample.0.weight'], stride), w, f'{block}.downsample.1')
        x = relu(x + y)
    return classify(x, w, 'fc')


def wrn_16_1(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    x = convolve(x, w['conv1.weight'])
    for stage, first_stride in ((1, 1), (2, 2), (3, 2)):
        for number, stride in ((0, first_stride), (1, 1)):
            block = f'block{stage}.layer.{number}'
            activated = relu(normalise(x, w, f'{block}.bn1'))
            y = relu(normalise(convolve(activated, w[f'{block}.conv1.weight'], stride), w, f'{block}.bn2'))
            y = convolve(y, w[f'{block}.conv2.weight'])
            x = y + (convolve(activated, w[f'{block}.convShortcut.weight'], stride) if stride > 1 else x)
    return classify(relu(normalise(x, w, 'bn1')), w, 'fc')


def vgg8(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    for block in range(5):
        x = convolve(x, w[f'block{block}.0.weight']) + w[f'block{block}.0.bias'][:, None, None]
        x = relu(normalise(x, w, f'block{block}.1'))
        if block < 3:  # the largest of each 2 x 2 pixels
            x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max(axis=(3, 5))
    return classify(x, w, 'classifier')


@pytest.mark.parametrize('formula', [resnet8, wrn_16_1, vgg8])
def test_the_logits_equal_the_formula_in_numpy(formula):
    name = f'cifar/{formula.__name__}'
    weights = drawn_weights([(key, value.shape) for key, value in public_weights(name).items()], SEED)
    model = zoo.build_classifier(name)
    model.load_state_dict(zoo.convert_state_dict(name, weights))
    images = np.random.default_rng(SEED).standard_normal((2, 3, 32, 32)).astype(np.float32)
    expected = formula(images.astype(np.float64), {key: value.double().numpy() for key, value in weights.items()})
    assert np.abs(logits(model, images) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_released_student_gives_its_logits(reference_dir):
    model = zoo.build_classifier('tiny/resnet20', checkpoint=reference_dir / 'resnet20_tinyimagenet_cutmix.pth')
    with np.load(reference_dir / 'resnet20_tinyimagenet_logits.npz') as stored:
        images, expected = stored['images'], stored['logits']
    assert np.abs(logits(model, images) - expected).max() <= 1e-4 * np.abs(expected).max()


# ------------------------------------------------------------------------------------------------------------- building
def test_num_classes_sets_the_classifier_alone():
    model = zoo.build_classifier('cifar/wrn_16_2', num_classes=7)
    assert model(torch.zeros(1, 3, 32, 32), mode='tensor').shape == (1, 7)
    default = {key: value.shape for key, value in zoo.build_classifier('cifar/wrn_16_2').state_dict().items()}
    changed = {key for key, value in model.state_dict().items() if value.shape != default[key]}
    assert changed == {'head.fc.weight', 'head.fc.bias'}


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('cifar/resnet2O', "did you mean .*'cifar/resnet20'"),
        ('resnet110', "'cifar/resnet110'"),
        ('?', 'known: cifar/mobilenetv2, cifar/resnet110, '),
    ],
)
@pytest.mark.parametrize('function', [zoo.build_classifier, zoo.classifier_config])
def test_an_unknown_name_is_refused_with_similar_names(function, name, hint):
    with pytest.raises(ValueError, match=rf'no network {re.escape(repr(name))} in the zoo; .*{hint}'):
        function(name)
    with pytest.raises(ValueError, match='no network'):
        zoo.convert_state_dict(name, {'w': torch.zeros(1)})


def test_the_config_is_a_copy():
    zoo.classifier_config('cifar/vgg8')['backbone']['depth'] = 11
    assert zoo.classifier_config('cifar/vgg8')['backbone']['depth'] == 8


@pytest.mark.parametrize('converted', [False, True])
def test_a_checkpoint_may_have_either_names(converted, tmp_path):
    weights = public_weights('cifar/resnet8')
    saved = {'state_dict': zoo.convert_state_dict('cifar/resnet8', weights)} if converted else {'model': weights}
    torch.save(saved, tmp_path / 'weights.pth')
    model = zoo.build_classifier('cifar/resnet8', checkpoint=tmp_path / 'weights.pth')
    assert_same(zoo.revert_state_dict('cifar/resnet8', model.state_dict()), weights)


def test_a_runner_keeps_the_weights_of_a_checkpoint(tmp_path):
    torch.save(public_weights('cifar/resnet8'), tmp_path / 'weights.pth')
    model = zoo.build_classifier('cifar/resnet8', checkpoint=tmp_path / 'weights.pth')
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()  # what Runner.train begins with
    assert_same(model.state_dict(), before)


def test_is_initialised_as_the_public_networks():
    vgg, shuffle, resnet = map(zoo.build_classifier, ('cifar/vgg8', 'cifar/shufflenetv1', 'cifar/resnet18'))
    drawn_by_torch = {key: value.clone() for key, value in shuffle.state_dict().items()}
    for model in (vgg, shuffle, resnet):
        model.init_weights()
    assert vgg.backbone.layer5.conv1.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.02)
    assert not vgg.backbone.layer5.conv1.bias.any()
    assert vgg.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    kept = [key for key in drawn_by_torch if not key.startswith('backbone.conv1.')]
    assert all(torch.equal(shuffle.state_dict()[key], drawn_by_torch[key]) for key in kept)
    assert (resnet.backbone.layer1[0].bn2.weight == 1).all()  # zero in mmpretrain's default


CONFIG = """
from mmpretrain.models import ClsDataPreprocessor

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss
from r2kd_mm.zoo import build_classifier

default_scope = 'r2kd_mm'
student = dict(type=build_classifier, name='cifar/resnet8')
model = dict(
    type=LogitDistiller,
    architecture=student,
    teacher=dict(type=build_classifier, name='cifar/wrn_16_1'),
    allow_untrained_teacher=True,
    losses=dict(loss_kd=dict(type=KLDivergenceLoss)),
    data_preprocessor=dict(type=ClsDataPreprocessor, mean=[127.5] * 3, std=[50.0] * 3))
"""


def test_a_config_names_a_network_by_its_builder(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    cfg = Config.fromfile(tmp_path / 'config.py')
    cfg.merge_from_dict({'model.architecture.num_classes': 7, 'model.teacher.num_classes': 7})
    cfg.dump(tmp_path / 'dumped.py')
    for loaded in (cfg, Config.fromfile(tmp_path / 'dumped.py')):
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            model = MODELS.build(loaded.model)
        assert model.architecture(torch.zeros(2, 3, 32, 32), mode='tensor').shape == (2, 7)
        assert type(model.teacher.backbone).__name__ == 'CIFARWideResNet'


def test_takes_the_data_preprocessor_that_the_runner_fills_in():
    preprocessor = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], num_classes=100)
    model = MODELS.build(dict(type=zoo.build_classifier, name='cifar/resnet8', data_preprocessor=preprocessor))
    assert model.data_preprocessor.mean.flatten().tolist() == [1, 2, 3]


# ------------------------------------------------------------------------------------------------------------- renaming
@pytest.mark.parametrize(
    'wrap',
    [
        lambda weights: weights,
        lambda weights: {'model': weights, 'epoch': 240, 'best_acc': 75.6},
        lambda weights: {'state_dict': weights, 'meta': {}},
        lambda weights: {f'module.{key}': value for key, value in weights.items()},
        lambda weights: {'model': {f'module.{key}': value for key, value in weights.items()}},
    ],
    ids=['bare', 'model', 'state_dict', 'module', 'module in model'],
)
@pytest.mark.parametrize('name', ['cifar/resnet8', 'imagenet/mobilenetv1'])  # whose names begin with module.
def test_takes_every_form_of_checkpoint_in_both_directions(name, wrap):
    public = public_weights(name)
    ours = zoo.convert_state_dict(name, wrap(public))
    assert ours.keys() == zoo.build_classifier(name).state_dict().keys()
    assert_same(zoo.revert_state_dict(name, wrap(ours)), public)


def test_renames_the_very_same_tensors():
    public = public_weights('cifar/resnet8')
    ours = zoo.convert_state_dict('cifar/resnet8', public)
    assert ours['head.fc.weight'] is public['fc.weight']


def test_renames_without_a_random_draw():
    public = public_weights('cifar/resnet8', 5)
    zoo._expected_layout.cache_clear()
    state = torch.get_rng_state()
    zoo.convert_state_dict('cifar/resnet8', public, 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_takes_the_student_of_a_distillation():
    student = zoo.build_classifier('cifar/resnet8')
    distiller = LogitDistiller(student, zoo.build_classifier('cifar/resnet14'), dict(loss_kd=KLDivergenceLoss()))
    public = zoo.revert_state_dict('cifar/resnet8', {'state_dict': distiller.state_dict()})
    assert_same(public, zoo.revert_state_dict('cifar/resnet8', student.state_dict()))


@pytest.mark.parametrize(
    ('name', 'given', 'message'),
    [
        ('tiny/resnet8', 'cifar/resnet8', "expected 'fc.weight' of shape (200, 64), got (100, 64)"),
        ('cifar/resnet8x4', 'cifar/resnet8', "expected 'conv1.weight' of shape (32, 3, 3, 3), got (16, 3, 3, 3)"),
        ('cifar/resnet14', 'cifar/resnet8', "expected 'layer1.1.conv1.weight' of shape (16, 16, 3, 3), got none"),
        ('cifar/resnet8', 'cifar/resnet14', "it has no 'layer1.1.conv1.weight', got one of shape (16, 16, 3, 3)"),
        (
            'cifar/vgg8',
            'cifar/resnet8',
            "expected 'block0.0.weight' of shape (64, 3, 3, 3), got none; the first one given is 'conv1.weight'",
        ),
    ],
)
def test_refuses_another_network_by_the_first_mismatch(name, given, message):
    with pytest.raises(ValueError, match=rf"not the weights of '{name}': {re.escape(message)}"):
        zoo.convert_state_dict(name, public_weights(given))


def test_refuses_ours_by_the_first_mismatch_too():
    weights = zoo.build_classifier('cifar/resnet8').state_dict()
    with pytest.raises(ValueError, match=r"expected 'head\.fc\.weight' of shape \(200, 64\), got \(100, 64\)"):
        zoo.revert_state_dict('tiny/resnet8', weights)
    with pytest.raises(ValueError, match=r"expected 'conv1\.weight' .* got none; the first one given is 'backbone\."):
        zoo.convert_state_dict('cifar/resnet8', weights)


def test_refuses_a_checkpoint_of_another_network(tmp_path):
    torch.save({'model': public_weights('cifar/resnet8')}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r"not the weights of 'tiny/resnet8': expected 'fc\.weight'"):
        zoo.build_classifier('tiny/resnet8', checkpoint=tmp_path / 'weights.pth')


def test_a_prefix_on_some_names_only_is_no_wrapper():
    weights = public_weights('cifar/resnet8')
    weights['module.conv1.weight'] = weights.pop('conv1.weight')
    with pytest.raises(ValueError, match=r"expected 'conv1\.weight' of shape .* got none"):
        zoo.convert_state_dict('cifar/resnet8', weights)


@pytest.mark.parametrize('nothing', [{}, {'model': {}}, {'state_dict': None}, {'epoch': 3}, {'optimizer': {'lr': 0.1}}])
def test_refuses_a_checkpoint_without_weights(nothing):
    with pytest.raises(ValueError, match='holds no weights: expected .* got a dict with the keys'):
        zoo.convert_state_dict('cifar/resnet8', nothing)


def test_other_classes_are_converted_when_their_number_is_given():
    public = public_weights('cifar/vgg8', 12)
    assert zoo.convert_state_dict('cifar/vgg8', public, 12)['head.fc.bias'].shape == (12,)
    with pytest.raises(
        ValueError, match=r"'classifier\.weight' of shape \(100, 512\), got \(12, 512\); .* num_classes"
    ):
        zoo.convert_state_dict('cifar/vgg8', public)
