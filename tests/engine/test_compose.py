"""A config is composed from a method and a network pair, by the tool or when a removed config file is read."""

import shutil
import warnings
from pathlib import Path

import pytest
import toolbox
from mmengine.config import Config

from r2kd_mm.augmentations import Cutout
from r2kd_mm.engine import compose
from r2kd_mm.engine.compose import Composition, find_composition, write_config
from r2kd_mm.engine.config_file import read_config
from r2kd_mm.engine.run_config import RUN_FIELDS
from r2kd_mm.hooks import TeacherCheckHook

CONFIGS = toolbox.ROOT / 'configs'
REMOVED = 'r2kd/r2kd-cutout_res34_res18_stanford-dogs.py'
TEXT = """\
# R2KD with Cutout, ResNet-34, fine-tuned, to ResNet-18 from scratch on Stanford Dogs.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from .._base_.methods.r2kd_cutout import *
    from .._base_.pairs.res34_res18_stanford_dogs import *

model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)
model.augmentation.length = 56  # a quarter of the side, as the 8 of 32 and the 16 of 64 pixels in the released code
"""


def read(path) -> Config:
    return read_config(str(path), RUN_FIELDS)


@pytest.fixture
def composed() -> Composition:
    return Composition(CONFIGS, 'r2kd_cutout', 'res34_res18_stanford_dogs')


def test_the_text_has_method_pair_and_what_the_method_sets_for_the_data(composed):
    assert composed.text() == TEXT
    assert composed.leaf == CONFIGS / REMOVED


@pytest.mark.parametrize(
    ('method', 'pair', 'folder'),
    [('kd-ls', 'res56_res20_cifar100', 'kd-ls'), ('cmkd-no-aug', 'res14w16_mv2_glyph100', 'cmkd')],
)
def test_the_longest_folder_of_the_name_is_that_of_the_method(method, pair, folder):
    assert Composition(CONFIGS, method, pair).leaf == CONFIGS / folder / f'{method}_{pair}.py'


@pytest.mark.parametrize(
    ('method', 'pair'),
    [
        ('kd-ls', 'res110_res20_cifar100'),
        ('r2kd', 'res34_res18_stanford-dogs'),
        ('cmkd-no-aug', 'res14w16_mv2_glyph100'),
    ],
)
def test_a_pair_whose_file_has_a_hyphen_in_its_name_is_written_too(tmp_path, method, pair):
    folder = tmp_path / 'configs' / 'mine'
    shutil.copytree(CONFIGS, tmp_path / 'configs')
    composition = Composition(tmp_path / 'configs', method, pair)
    write_config(composition, folder / 'a.py')
    assert 'read_base' in (folder / 'a.py').read_text()
    assert read(folder / 'a.py').to_dict() == read(composition.leaf).to_dict()


def test_a_pair_with_a_config_of_its_own_takes_that_with_its_settings(tmp_path):
    composition = Composition(CONFIGS, 'kd', 'res34_res18_imagenet')
    assert 'from ..kd.kd_res34_res18_imagenet import *' in composition.text()
    write_config(composition, tmp_path / 'kd.py')
    assert read(tmp_path / 'kd.py').model.losses.loss_kd.temperature == 1.0  # 4 for other pairs


def test_a_pair_of_ones_own_may_have_a_short_name(tmp_path):
    for folder in ('methods', 'pairs'):
        shutil.copytree(CONFIGS / '_base_' / folder, tmp_path / '_base_' / folder)
    shutil.copy(tmp_path / '_base_/pairs/res34_res18_mit67.py', tmp_path / '_base_/pairs/mine.py')
    assert 'from .._base_.pairs.mine import *' in Composition(tmp_path, 'dkd', 'mine').text()


@pytest.mark.parametrize(
    ('method', 'pair', 'message'),
    [
        ('r2kd-mixdown', 'res56_res20_cifar100', "there is no method 'r2kd-mixdown'; did you mean 'r2kd-mixup'"),
        (
            'kd',
            'res56_res20_cifar10',
            "no pair 'res56_res20_cifar10'; did you mean 'res56_res20_cifar100'.*res34_res18",
        ),
        ('kd', 'res14_res14_digits', "there is no pair 'res14_res14_digits'"),
        ('kd', 'cifar100', "there is no pair 'cifar100'"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_known(method, pair, message):
    with pytest.raises(ValueError, match=message):
        Composition(CONFIGS, method, pair)


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder with configs."""
    (tmp_path / 'configs').mkdir()
    for name in ('_base_', 'r2kd', 'kd'):
        (tmp_path / 'configs' / name).symlink_to(CONFIGS / name)
    return tmp_path


@pytest.mark.parametrize(
    ('out', 'base'),
    [
        ('configs/own/mine.py', 'from .._base_.methods'),
        ('mine.py', 'from .configs._base_.methods'),
        ('runs/today/mine.py', 'from ...configs._base_.methods'),
    ],
)
def test_a_written_config_reads_as_the_removed_one_from_any_folder(clone, out, base):
    composition = Composition(clone / 'configs', 'r2kd-cutout', 'res34_res18_stanford-dogs')
    write_config(composition, clone / out)
    assert base in (clone / out).read_text()
    with pytest.warns(FutureWarning):
        removed = read(clone / 'configs' / REMOVED)
    assert read(clone / out).to_dict() == removed.to_dict()
    with pytest.raises(FileExistsError, match=r'mine\.py exists already; give --out another name'):
        write_config(composition, clone / out)


def test_where_no_import_leads_to_the_methods_every_field_is_written_out(clone):
    """site-packages, the folder of an installed package, has no name in an import."""
    (clone / 'configs').rename(clone / 'site-packages')
    write_config(Composition(clone / 'site-packages', 'r2kd-cutout', 'res34_res18_stanford-dogs'), clone / 'mine.py')
    assert 'read_base' not in (clone / 'mine.py').read_text()
    with pytest.warns(FutureWarning):
        removed = read(CONFIGS / REMOVED)
    assert read(clone / 'mine.py').to_dict() == removed.to_dict()


@pytest.mark.parametrize('path', [f'configs/{REMOVED}', f'r2kd_mm::{REMOVED}'])
def test_a_removed_config_is_read_with_one_warning_that_names_the_command(monkeypatch, path):
    monkeypatch.chdir(toolbox.ROOT)
    monkeypatch.setattr(compose, 'INSTALLED', CONFIGS)
    with pytest.warns(FutureWarning) as warned:
        cfg = read(path)
    command = 'python tools/compose_config.py r2kd-cutout res34_res18_stanford-dogs --out FILE'
    assert [str(warning.message).endswith(command) for warning in warned] == [True]
    assert cfg.model.augmentation == dict(type=Cutout, length=56)
    assert cfg.custom_hooks[-1].type is TeacherCheckHook
    assert Path(cfg.filename).name == Path(REMOVED).name  # that of the experiment


def test_a_config_that_exists_is_read_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert read(CONFIGS / 'kd/kd_res34_res18_imagenet.py').model.losses.loss_kd.temperature == 1.0


@pytest.mark.parametrize(
    'path',
    [
        'configs/kd/r2kd_res34_res18_imagenet.py',  # its folder is r2kd
        'configs/r2kd/r2kd_res34_res18_imagenet.json',
        'r2kd/r2kd_res34_res18_imagenet.py',  # there is no _base_ at its side
        'configs/supervised/res18_imagenets.py',
        'mmpretrain::r2kd/r2kd_res34_res18_imagenet.py',
    ],
)
def test_another_name_that_is_missing_is_not_composed(monkeypatch, path):
    monkeypatch.chdir(toolbox.ROOT)
    assert find_composition(path) is None


def test_a_typo_in_the_pair_is_an_error_with_what_was_meant():
    with pytest.raises(FileNotFoundError, match=r"r2kd_res34_res18_imagnet.py', and none .* 'res34_res18_imagenet'"):
        read(CONFIGS / 'r2kd/r2kd_res34_res18_imagnet.py')


def test_a_config_that_inherits_from_a_removed_one_is_refused_with_the_command(clone):
    mine = clone / 'configs/kd_mine.py'
    mine.write_text(
        'from mmengine.config import read_base\nwith read_base():\n    from .kd.kd_res34_res18_cub200 import *\n'
    )
    command = 'python tools/compose_config.py kd res34_res18_cub200 --out .*/configs/kd/kd_res34_res18_cub200.py'
    with pytest.raises(ValueError, match=rf"^config '.*kd_mine.py'.* It was removed; write it with {command}"):
        read(mine)
