"""Every config under ``configs/`` can be read, changed, written, read again and built, without a network."""

import functools
from pathlib import Path

import pytest
import toolbox
import torch
import toys
from mmengine.config import Config
from mmengine.registry import DefaultScope

from r2kd_mm.distillers import R2KD, LogitDistiller
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.distillers.teacher import num_classes
from r2kd_mm.hooks import FiniteCheckHook, RunRecordHook, TeacherCheckHook
from r2kd_mm.registry import DATASETS, HOOKS, MODELS
from r2kd_mm.zoo import NETWORKS

CONFIG_DIR = toolbox.ROOT / 'configs'
LEAVES = sorted(path.relative_to(CONFIG_DIR) for path in CONFIG_DIR.glob('*/*.py') if path.parent.name != '_base_')
RELEASED = [path for path in LEAVES if path.name.startswith('r2kd-released_')]
IMAGENET_PARAMETERS = {
    'mbv1': 4_231_976,
    'mv2': 3_504_872,
    'res18': 11_689_512,
    'res34': 21_797_672,
    'res50': 25_557_032,
}
DISTILLERS = (LogitDistiller, R2KD)
DATA_SETS = ('cifar100', 'cub200', 'digits', 'glyph100', 'imagenet', 'mit67', 'stanford-dogs', 'stanford40')
DATA_SETS += ('tiny-imagenet',)


@functools.cache
def load(leaf: Path) -> Config:
    """The config as it is read; a test that changes it takes a copy."""
    return Config.fromfile(CONFIG_DIR / leaf)


_networks: dict[str, torch.nn.Module] = {}


def build_network(config: dict) -> torch.nn.Module:
    """Each network once: many leaves share it."""
    key = repr(config)
    if key not in _networks:
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            _networks[key] = MODELS.build(config)
    return _networks[key]


def networks_of(cfg: Config) -> list[dict]:
    if 'teacher' not in cfg.model:
        return [cfg.model]
    teacher = cfg.model.teacher
    members = [teacher] if 'members' not in teacher else [m.teacher for m in teacher.members.values() if 'teacher' in m]
    return [cfg.model.architecture, *members]


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_networks_model_hooks_and_pipelines_are_built(leaf):
    cfg = load(leaf).copy()
    classes = {num_classes(unwrap_student(build_network(network))) for network in networks_of(cfg)}
    assert len(classes) == 1
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for hook in cfg.custom_hooks:
            HOOKS.build(hook)
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            DATASETS.build(dict(loader.dataset, lazy_init=True))
        if cfg.model.type in DISTILLERS:  # the networks are built above; what remains is the same around small ones
            small = toys.classifier(num_classes=classes.pop())
            model = MODELS.build(
                dict(cfg.model, architecture=small, teacher=small, teacher_ckpt=None, allow_untrained_teacher=True)
            )
            assert isinstance(model, LogitDistiller)


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_what_is_written_reads_the_same(leaf, tmp_path):
    load(leaf).dump(tmp_path / 'config.py')
    assert Config.fromfile(tmp_path / 'config.py').to_dict() == load(leaf).to_dict()


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_options_reach_the_fields_they_name(leaf):
    cfg = load(leaf).copy()
    cfg.merge_from_dict({'train_dataloader.batch_size': 8, 'model.teacher_ckpt': 'x'})
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.model.teacher_ckpt == 'x'
    assert cfg.train_dataloader.dataset == load(leaf).train_dataloader.dataset


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_a_distillation_is_guarded_and_every_run_recorded(leaf):
    hooks = [hook.type for hook in load(leaf).custom_hooks]
    assert RunRecordHook in hooks
    distils = load(leaf).model.type in DISTILLERS
    assert (TeacherCheckHook in hooks, FiniteCheckHook in hooks) == (distils, distils)


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_the_name_says_what_the_file_is(leaf):
    method, *networks, data = leaf.stem.split('_')
    assert data in DATA_SETS
    if leaf.parent.name == 'supervised':
        assert networks == []
    else:
        assert len(networks) == 2
        assert method.startswith(leaf.parent.name.replace('_', '-'))


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_a_leaf_fits_on_one_screen(leaf):
    assert len((CONFIG_DIR / leaf).read_text().splitlines()) <= 30


@pytest.mark.parametrize('leaf', RELEASED, ids=str)
def test_the_released_variant_differs_in_its_decisions_alone(leaf):
    released = load(leaf).model.to_dict()
    ours = load(leaf.with_name(leaf.name.replace('-released', ''))).model.to_dict()
    assert released.pop('pruned_teacher_mode') == 'train'
    assert released['augmentation'].pop('per_image') is False
    assert released['losses']['loss_value'].pop('eps') == 1e-8
    assert released['losses']['loss_rank'].pop('estimator') == 'hard'
    for name in ('estimator', 'smoothing'):
        ours['losses']['loss_rank'].pop(name, None)
    assert released == ours


@pytest.mark.parametrize(('name', 'parameters'), IMAGENET_PARAMETERS.items())
def test_the_imagenet_networks_have_the_parameters_stated(name, parameters):
    path = CONFIG_DIR / f'_base_/models/imagenet_{name}.py'
    assert f'{parameters:,} parameters' in path.read_text()
    model = build_network(Config.fromfile(path)[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_pairs_of_the_paper_are_there_for_every_method():
    methods = (
        'r2kd',
        'r2kd-mixup',
        'r2kd-cutout',
        'r2kd-autoaugment',
        'r2kd-cutmixpick',
        'r2kd-released',
        'cmkd',
        'kd',
    )
    names = {leaf.stem for leaf in LEAVES}
    pairs = {tuple(path.stem.split('_', 2)) for path in (CONFIG_DIR / '_base_/pairs').glob('*.py')}
    assert len([pair for pair in pairs if pair[2] == 'cifar100']) == 12
    assert len([pair for pair in pairs if pair[2] == 'tiny_imagenet']) == 6
    for teacher, student, data in pairs:
        others = dict(cifar100=['dkd', 'kd-ls'], imagenet=['dkd']).get(data, [])
        for method in (*methods, 'dist', *others):
            assert f'{method}_{teacher}_{student}_{data.replace("_", "-")}' in names
        assert f'{teacher}_{data.replace("_", "-")}' in names  # the config that trains the teacher


def test_every_network_that_a_config_names_is_in_the_zoo():
    named = {network.name for leaf in LEAVES for network in networks_of(load(leaf)) if 'name' in network}
    assert named
    assert named <= set(NETWORKS)
