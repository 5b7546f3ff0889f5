"""Registry names resolve the same way from every scope, and an unknown name is explained."""

import logging

import pytest
import torch
from mmengine.registry import DefaultScope, Registry, root
from torch import nn

from r2kd_mm import registry
from r2kd_mm.registry import MODELS, SiblingRegistry, build_component

ROOT_NAMES = sorted(name for name, value in vars(root).items() if isinstance(value, Registry) and name.isupper())


class ToyLoss(nn.Module):
    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = temperature


@pytest.fixture
def toy_loss():
    """Register a loss as part of ``r2kd_mm.losses`` for one test."""
    ToyLoss.__module__ = 'r2kd_mm.losses.toy'
    MODELS.register_module(module=ToyLoss)
    yield ToyLoss
    del MODELS.module_dict['ToyLoss']


@pytest.mark.parametrize('name', ROOT_NAMES)
def test_each_root_registry_has_a_child_of_the_same_name(name):
    child = getattr(registry, name)
    assert child.parent is getattr(root, name)
    assert getattr(root, name).children['r2kd_mm'] is child


@pytest.mark.parametrize(
    ('name', 'package'),
    [
        ('R2KD', 'r2kd_mm'),
        ('ImageClassifier', 'mmpretrain'),
        ('SingleTeacherDistill', 'mmrazor'),
        ('CheckpointHook', 'mmengine'),
        # in mmpretrain and in mmrazor, so the order of the siblings matters
        ('CrossEntropyLoss', 'mmpretrain'),
    ],
)
def test_a_name_without_prefix_is_found_in_the_whole_stack(name, package):
    found = (registry.HOOKS if name.endswith('Hook') else MODELS).get(name)
    assert found.__module__.split('.')[0] == package


def test_mmrazor_and_mmengine_share_no_name_so_their_order_does_not_matter():
    for name in ROOT_NAMES:
        parent = getattr(root, name)
        for found in (parent, *parent.children.values()):
            found.import_from_location()
        if 'mmrazor' in parent.children:
            assert not parent.children['mmrazor'].module_dict.keys() & parent.module_dict.keys()


def test_own_names_shadow_the_names_of_the_siblings(toy_loss):
    try:
        MODELS.register_module(name='KLDivergence', module=toy_loss)
        assert MODELS.get('KLDivergence') is toy_loss
        assert MODELS.get('mmrazor.KLDivergence') is not toy_loss
    finally:
        del MODELS.module_dict['KLDivergence']


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmrazor', 'r2kd_mm'])
def test_a_prefix_works_from_a_config_of_any_scope(scope, toy_loss):
    with DefaultScope.overwrite_default_scope(scope):
        built = root.MODELS.build(dict(type='r2kd_mm.ToyLoss', temperature=2.0))
        assert built.temperature == 2.0
        assert root.MODELS.build(dict(type='ToyLoss', _scope_='r2kd_mm')).temperature == 4.0
        assert root.MODELS.build(dict(type='mmrazor.L2Loss')).__module__.startswith('mmrazor')


def test_nested_types_of_the_siblings_resolve_in_our_scope():
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1)
        head = MODELS.build(dict(type='LinearClsHead', num_classes=3, in_channels=4, loss=loss))
    assert type(head.loss_module).__name__ == 'LabelSmoothLoss'


def test_batch_augments_of_mmpretrain_build_in_our_scope_without_a_warning(caplog):
    from mmpretrain.registry import BATCH_AUGMENTS

    with DefaultScope.overwrite_default_scope('r2kd_mm'), caplog.at_level(logging.WARNING):
        assert BATCH_AUGMENTS.build(dict(type='Mixup', alpha=0.2)).alpha == 0.2
    assert 'Failed to search registry' not in caplog.text


def test_a_missing_location_is_not_swallowed():
    broken = SiblingRegistry(Registry('broken', scope='mmengine'))
    broken._locations = ['r2kd_mm.no_such_folder']
    with pytest.raises(ModuleNotFoundError, match='no_such_folder'):
        broken.get('Anything')


class TestBuildComponent:
    def test_builds_from_a_name_a_class_or_hands_a_module_through(self, toy_loss):
        assert build_component(dict(type='ToyLoss', temperature=2.0), 'loss', 'r2kd_mm.losses').temperature == 2.0
        assert build_component(dict(type=toy_loss), 'loss', 'r2kd_mm.losses').temperature == 4.0
        ready = toy_loss()
        assert build_component(ready, 'loss', 'r2kd_mm.losses') is ready

    def test_leaves_the_config_as_it_was(self, toy_loss):
        cfg = dict(type='ToyLoss', temperature=2.0)
        build_component(cfg, 'loss', 'r2kd_mm.losses')
        assert cfg == dict(type='ToyLoss', temperature=2.0)

    def test_finds_our_names_from_the_scope_of_mmrazor(self, toy_loss):
        with DefaultScope.overwrite_default_scope('mmrazor'):
            assert isinstance(build_component(dict(type='ToyLoss'), 'loss', 'r2kd_mm.losses'), toy_loss)

    def test_a_full_path_or_a_prefix_names_a_class_of_another_package(self):
        loss = build_component(dict(type='mmrazor.L2Loss'), 'loss', 'r2kd_mm.losses')
        assert type(loss).__name__ == 'L2Loss'
        assert isinstance(build_component(dict(type='torch.nn.MSELoss'), 'loss', 'r2kd_mm.losses'), torch.nn.MSELoss)

    def test_an_unknown_name_lists_the_known_ones_and_guesses(self, toy_loss):
        with pytest.raises(
            ValueError, match=r"unknown loss 'ToyLos'; known losses: .*ToyLoss.*did you mean 'ToyLoss'\?"
        ):
            build_component(dict(type='ToyLos'), 'loss', 'r2kd_mm.losses')

    @pytest.mark.parametrize('name', ['json', 'no.such.Class', 'r2kd_mm.NoSuchLoss', 'NoSuchLoss'])
    def test_a_name_that_is_not_a_class_is_unknown(self, name):
        with pytest.raises(ValueError, match=f'unknown loss {name!r}; known losses: '):
            build_component(dict(type=name), 'loss', 'r2kd_mm.losses')

    def test_the_known_types_come_from_one_package(self, toy_loss):
        with pytest.raises(ValueError) as caught:
            build_component(dict(type='Mixupp'), 'augmentation', 'r2kd_mm.augmentations')
        assert 'known augmentations: ' in str(caught.value)
        assert 'CutMix' in str(caught.value)
        assert 'ToyLoss' not in str(caught.value)

    def test_an_unknown_argument_names_the_class_and_its_parameters(self, toy_loss):
        with pytest.raises(TypeError, match=r"ToyLoss does not take 'temprature'; its parameters are \(temperature"):
            build_component(dict(type='ToyLoss', temprature=2.0), 'loss', 'r2kd_mm.losses')

    def test_a_typo_is_guessed(self, toy_loss):
        with pytest.raises(TypeError, match=r"did you mean 'temperature'\?"):
            build_component(dict(type='ToyLoss', temprature=2.0), 'loss', 'r2kd_mm.losses')

    def test_a_missing_argument_is_named(self):
        with pytest.raises(
            TypeError, match="Conv2d needs 'in_channels', 'out_channels', 'kernel_size'; its parameters"
        ):
            build_component(dict(type=nn.Conv2d), 'loss', 'r2kd_mm.losses')

    @pytest.mark.parametrize('cfg', ['ToyLoss', None, 3, ToyLoss])
    def test_anything_but_a_config_is_refused(self, cfg):
        with pytest.raises(TypeError, match=r'loss must be a config dict\(type=\.\.\.\) or a ready object, got '):
            build_component(cfg, 'loss', 'r2kd_mm.losses')

    def test_a_config_without_type_is_refused(self):
        with pytest.raises(ValueError, match=r"loss config {'temperature': 1} has no 'type'; known losses: "):
            build_component(dict(temperature=1), 'loss', 'r2kd_mm.losses')
