"""Every config under ``configs/`` can be read, changed, written, read again and built, without a network."""

from pathlib import Path

import pytest
import toolbox
from mmengine.config import Config
from mmengine.registry import DefaultScope

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.hooks import TeacherCheckHook
from r2kd_mm.registry import MODELS

CONFIG_DIR = toolbox.ROOT / 'configs'
LEAVES = sorted(path.relative_to(CONFIG_DIR) for path in CONFIG_DIR.glob('*/*.py') if path.parent.name != '_base_')
RELEASED = [path for path in LEAVES if path.name.startswith('r2kd-released_')]


def load(leaf: Path) -> Config:
    return Config.fromfile(CONFIG_DIR / leaf)


def build(cfg: Config):
    """The model of a run, its teacher left untrained."""
    if 'teacher' in cfg.model:
        cfg.merge_from_dict({'model.teacher_ckpt': None, 'model.allow_untrained_teacher': True})
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_the_model_is_built(leaf):
    cfg = load(leaf)
    model = build(cfg)
    assert isinstance(model, LogitDistiller) is (leaf.parent.name != 'supervised')


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_what_is_written_reads_the_same(leaf, tmp_path):
    cfg = load(leaf)
    cfg.dump(tmp_path / 'config.py')
    assert Config.fromfile(tmp_path / 'config.py').to_dict() == cfg.to_dict()


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_options_reach_the_fields_they_name(leaf):
    cfg = load(leaf)
    student = 'model.architecture' if 'architecture' in cfg.model else 'model'
    cfg.merge_from_dict({'train_dataloader.batch_size': 8, f'{student}.head.num_classes': 7, 'model.teacher_ckpt': 'x'})
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.model.teacher_ckpt == 'x'
    assert cfg.model.get('architecture', cfg.model).head.num_classes == 7
    assert cfg.train_dataloader.dataset == load(leaf).train_dataloader.dataset


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_a_teacher_is_checked_where_there_is_one(leaf):
    cfg = load(leaf)
    checked = any(hook.type is TeacherCheckHook for hook in cfg.custom_hooks)
    assert checked is ('teacher' in cfg.model)


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_the_name_says_what_the_file_is(leaf):
    method, *networks_and_data = leaf.stem.split('_')
    if leaf.parent.name == 'supervised':
        assert len(networks_and_data) == 1
    else:
        assert len(networks_and_data) == 3
        assert method.startswith(leaf.parent.name)


@pytest.mark.parametrize('leaf', RELEASED, ids=str)
def test_the_released_variant_differs_in_its_decisions_alone(leaf):
    released, ours = load(leaf).model, load(leaf.with_name(leaf.name.replace('-released', ''))).model
    assert released.pop('pruned_teacher_mode') == 'train'
    assert released.augmentation.pop('per_image') is False
    assert released.losses.loss_value.pop('eps') == 1e-8
    assert released.losses.loss_rank.pop('estimator') == 'hard'
    ours.losses.loss_rank.pop('estimator', None)
    assert released == ours


@pytest.mark.parametrize(
    ('name', 'parameters'), [('mbv1', 4_231_976), ('res18', 11_689_512), ('res34', 21_797_672), ('res50', 25_557_032)]
)
def test_the_imagenet_networks_have_the_parameters_stated(name, parameters):
    path = CONFIG_DIR / f'_base_/models/{name}_imagenet.py'
    assert f'{parameters:,} parameters' in path.read_text()
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        model = MODELS.build(Config.fromfile(path)[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
