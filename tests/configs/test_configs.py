"""Every config can be read, changed, written, read again and built, without internet access.

This also holds for the 395 config names of version 0.1: a config whose file was removed is composed from its parts.
"""

import itertools
import warnings
from pathlib import Path

import pytest
import toolbox
import toys
from mmengine.config import Config
from mmengine.registry import DefaultScope

from r2kd_mm.classifiers import num_classes
from r2kd_mm.distillers import R2KD, LogitDistiller
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine.compose import Composition
from r2kd_mm.engine.config_file import read_config
from r2kd_mm.engine.run_config import RUN_FIELDS
from r2kd_mm.hooks import FiniteCheckHook, RunRecordHook, TeacherCheckHook
from r2kd_mm.registry import DATASETS, HOOKS, MODELS
from r2kd_mm.zoo import NETWORKS

CONFIG_DIR = toolbox.ROOT / 'configs'
FILES = {path.relative_to(CONFIG_DIR) for path in CONFIG_DIR.glob('*/*.py') if path.parent.name != '_base_'}
OLD_NAMES = [Path(line) for line in (Path(__file__).parent / 'names_0_1.txt').read_text().split()]
LEAVES = sorted({*FILES, *OLD_NAMES})
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


def load(leaf: Path) -> Config:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        return read_config(str(CONFIG_DIR / leaf), RUN_FIELDS)


def text(leaf: Path) -> str:
    if leaf in FILES:
        return (CONFIG_DIR / leaf).read_text()
    return Composition(CONFIG_DIR, *leaf.stem.split('_', 1)).text()


def test_there_are_395_old_names_and_most_are_no_files_any_more():
    assert len(OLD_NAMES) == len(set(OLD_NAMES)) == 395
    assert len(FILES) < 150


_built: dict[str, tuple[int, int]] = {}


def classes_and_parameters(network: dict) -> tuple[int, int]:
    """Build a network and count its classes and parameters; once each, since many leaves share it."""
    key = repr(network)
    if key not in _built:
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            model = MODELS.build(network)
        _built[key] = num_classes(unwrap_student(model)), sum(value.numel() for value in model.parameters())
    return _built[key]


def networks_of(cfg: Config) -> list[dict]:
    if 'teacher' not in cfg.model:
        return [cfg.model]
    teacher = cfg.model.teacher
    members = [teacher] if 'members' not in teacher else [m.teacher for m in teacher.members.values() if 'teacher' in m]
    return [cfg.model.architecture, *members]


def quick() -> set[Path]:
    """The leaves of `make test`: the first with each method, network and data set."""
    first: dict[str, Path] = {}
    for leaf in LEAVES:
        for part in (leaf.parent.name, *leaf.stem.split('_')):
            first.setdefault(part, leaf)
    return set(first.values())


QUICK = quick()


@pytest.mark.parametrize(
    'leaf', [pytest.param(leaf, id=str(leaf), marks=() if leaf in QUICK else pytest.mark.slow) for leaf in LEAVES]
)
def test_a_leaf_is_short_well_named_guarded_and_can_be_built_changed_and_written(leaf, tmp_path):
    cfg = load(leaf)
    assert_short_and_well_named(leaf)
    assert_recorded_and_guarded(cfg)
    assert_built(cfg.copy())
    assert_the_same_when_written_and_read(cfg, tmp_path / 'config.py')
    assert_options_reach_their_fields(cfg)


def assert_short_and_well_named(leaf: Path) -> None:
    assert len(text(leaf).splitlines()) <= 30  # one screen
    method, *networks, data = leaf.stem.split('_')
    assert data in DATA_SETS
    if leaf.parent.name == 'supervised':
        assert networks == []
    else:
        assert len(networks) == 2
        assert method.startswith(leaf.parent.name.replace('_', '-'))


def assert_recorded_and_guarded(cfg: Config) -> None:
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert RunRecordHook in hooks
    distils = cfg.model.type in DISTILLERS
    assert (TeacherCheckHook in hooks, FiniteCheckHook in hooks) == (distils, distils)


def assert_built(cfg: Config) -> None:
    networks = networks_of(cfg)
    (classes,) = {classes_and_parameters(network)[0] for network in networks}
    assert {network.name for network in networks if 'name' in network} <= set(NETWORKS)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for hook in cfg.custom_hooks:
            HOOKS.build(hook)
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            DATASETS.build(dict(loader.dataset, lazy_init=True))
        if cfg.model.type in DISTILLERS:  # the networks are built above; what remains is the same around small ones
            small = toys.classifier(num_classes=classes)
            model = MODELS.build(
                dict(cfg.model, architecture=small, teacher=small, teacher_ckpt=None, allow_untrained_teacher=True)
            )
            assert isinstance(model, LogitDistiller)


def assert_the_same_when_written_and_read(cfg: Config, path: Path) -> None:
    cfg.dump(path)
    assert Config.fromfile(path).to_dict() == cfg.to_dict()


def assert_options_reach_their_fields(cfg: Config) -> None:
    changed = cfg.copy()
    changed.merge_from_dict({'train_dataloader.batch_size': 8, 'model.teacher_ckpt': 'x'})
    assert changed.train_dataloader.batch_size == 8
    assert changed.model.teacher_ckpt == 'x'
    assert changed.train_dataloader.dataset == cfg.train_dataloader.dataset


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
    assert classes_and_parameters(Config.fromfile(path)[name])[1] == parameters


def test_the_methods_and_pairs_go_together():
    methods = sorted(path.stem for path in (CONFIG_DIR / '_base_/methods').glob('*.py'))
    pairs = sorted(path.stem for path in (CONFIG_DIR / '_base_/pairs').glob('*.py'))
    assert len([pair for pair in pairs if pair.endswith('_cifar100')]) == 12
    assert len([pair for pair in pairs if pair.endswith('_tiny_imagenet')]) == 6
    assert {'r2kd', 'r2kd_mixup', 'r2kd_cutout', 'r2kd_autoaugment', 'r2kd_cutmixpick'} <= set(methods)
    for method, pair in zip(itertools.cycle(methods), pairs):
        composition = Composition(CONFIG_DIR, method, pair)
        leaf = composition.leaf.relative_to(CONFIG_DIR)
        wanted = [f'methods.{method}', f'pairs.{pair}']
        if leaf in FILES:  # which a name with a hyphen keeps out of an import
            wanted = [leaf.stem] if leaf.stem.isidentifier() else [(CONFIG_DIR / leaf).read_text()]
        assert all(name in composition.text() for name in wanted)
        teacher, _, data = composition.pair.split('_')
        assert Path('supervised', f'{teacher}_{data}.py') in FILES  # it trains the teacher
