"""The installed package works with `mim train`, `mim test`, `mim run` and config names, with or without the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest
import toolbox

SOURCES = ('r2kd_mm', 'configs', 'tools', 'requirements')
FILES = ('setup.py', 'pyproject.toml', 'model-index.yml', 'MANIFEST.in', 'README.md', 'CHANGELOG.md', 'CITATION.cff')
SHORT = ('--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1')


def in_python(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **variables},
        capture_output=True,
        text=True,
        timeout=toolbox.TIMEOUT,
    )


@pytest.fixture(scope='module')
def tree(tmp_path_factory) -> Path:
    """A copy of the clone."""
    tree = tmp_path_factory.mktemp('tree')
    for name in SOURCES:
        shutil.copytree(toolbox.ROOT / name, tree / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
    for name in FILES:
        shutil.copy(toolbox.ROOT / name, tree)
    return tree


@pytest.fixture(scope='module')
def installed(tree, tmp_path_factory) -> Path:
    """A folder of packages with the wheel of this tree in it."""
    wheels, packages = (tmp_path_factory.mktemp(name) for name in ('wheels', 'packages'))
    options = ('-q', '--no-deps', '--no-index', '--disable-pip-version-check')
    built = in_python('-m', 'pip', 'wheel', *options, '--no-build-isolation', '-w', wheels, '.', cwd=tree)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob('r2kd_mm-*.whl')
    done = in_python('-m', 'pip', 'install', *options, '--target', packages, wheel, cwd=tree)
    assert done.returncode == 0, done.stderr
    return packages


@pytest.mark.slow
def test_a_wheel_has_the_files_that_are_not_python(installed):
    assert (installed / 'r2kd_mm/py.typed').is_file()
    assert '<html' in (installed / 'r2kd_mm/report/page.html').read_text()
    (found,) = metadata.distributions(name='r2kd_mm', path=[str(installed)])
    assert 'Typing :: Typed' in found.metadata.get_all('Classifier')
    assert 'Paper, https://doi.org/10.1109/TKDE.2024.3438074' in found.metadata.get_all('Project-URL')


def mim(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command ``mim``."""
    main = 'from mim.cli import cli; cli()'
    return in_python('-W', 'ignore', '-c', main, *arguments, cwd=cwd, PYTHONPATH=str(installed))


@pytest.fixture(scope='module')
def trained(installed, tmp_path_factory) -> Path:
    """An empty folder in which a config of the package was trained by its name."""
    folder = tmp_path_factory.mktemp('use')
    done = mim(installed, folder, 'train', 'r2kd_mm', 'res14_digits.py', '--gpus', '0', *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_mim_train_trains_a_config_of_the_package(installed, trained):
    assert (trained / 'work_dirs/res14_digits/epoch_1.pth').is_file()
    config = (trained / 'work_dirs/res14_digits/res14_digits.py').read_text()
    assert 'r2kd_mm' in config


@pytest.mark.slow
def test_mim_test_measures_what_training_did(installed, trained):
    checkpoint = ('--checkpoint', 'work_dirs/res14_digits/epoch_1.pth')
    done = mim(installed, trained, 'test', 'r2kd_mm', 'res14_digits.py', *checkpoint, '--gpus', '0')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'accuracy/top1' in done.stdout


@pytest.mark.slow
def test_mim_run_finds_the_tools_also_those_in_folders(installed, trained):
    done = mim(installed, trained, 'run', 'r2kd_mm', 'check_env')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'training can work' in done.stdout
    done = mim(installed, trained, 'run', 'r2kd_mm', 'dataset_converters:make_mini', 'cifar100', 'data/cifar100')
    assert done.returncode == 0, done.stdout + done.stderr
    assert (trained / 'data/cifar100').is_dir()


@pytest.mark.slow
def test_a_wheel_distils_photos(installed, trained):
    """The command is the whole way: scan, teacher, student, export, with what the wheel brings."""
    mini = ('dataset_converters:make_mini', 'imagenet', 'mini', '--classes', '3', '--train', '20', '--val', '4')
    done = mim(installed, trained, 'run', 'r2kd_mm', *mini)
    assert done.returncode == 0, done.stdout + done.stderr
    networks = ('--teacher', 'r2kd/cifar/resnet14', '--student', 'r2kd/cifar/resnet8')
    random = ('--teacher-init', 'none', '--student-init', 'none', '--image-size', '32', '--teacher-image-size', '32')
    short = ('--epochs', '6', '--workers', '0', '--no-page', '--no-baseline', '--out', 'distilled')
    done = mim(installed, trained, 'run', 'r2kd_mm', 'distill', 'mini', *networks, *random, *short)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (trained / 'distilled/export/torchscript/README.md').is_file()


@pytest.mark.slow
def test_mim_finds_an_editable_installation_as_the_readme_has_it(tree, tmp_path):
    venv.create(tmp_path / 'env', symlinks=True)
    python = tmp_path / 'env/bin/python'
    (packages,) = (tmp_path / 'env/lib').glob('python*/site-packages')
    # the packages of this environment, but not its r2kd_mm
    here = Path(sysconfig.get_paths()['purelib'])
    for path in here.iterdir():
        if 'r2kd_mm' not in path.name:
            (packages / path.name).symlink_to(path)
    options = ('--python', python, 'install', '-q', '--no-deps', '--no-index', '--disable-pip-version-check')
    done = in_python('-m', 'pip', *options, '--no-build-isolation', '-e', tree, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    main = 'from mim.cli import cli; cli()'
    for command in (
        ('run', 'r2kd_mm', 'check_env'),
        ('train', 'r2kd_mm', 'res14_digits.py', '--gpus', '0', *SHORT),
    ):
        done = subprocess.run(
            [python, '-W', 'ignore', '-c', main, *command],
            cwd=tmp_path,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ''},
            capture_output=True,
            text=True,
            timeout=toolbox.TIMEOUT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / 'work_dirs/res14_digits/epoch_1.pth').is_file()
    code = "import r2kd_mm; from mmengine.hub import get_config; get_config('r2kd_mm::kd/kd_res14_res6_digits.py')"
    found = subprocess.run(
        [python, '-c', code], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': ''}, capture_output=True
    )
    assert found.returncode == 0, found.stderr.decode()


@pytest.mark.slow
def test_a_config_of_the_package_goes_by_its_name(installed, trained):
    (trained / 'mine.py').write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n'
        '    from r2kd_mm.configs.kd.kd_res14_res6_digits import *\n'
        'train_cfg.max_epochs = 10\n'
    )
    code = (
        'import r2kd_mm; from mmengine.config import Config; from mmengine.hub import get_config; '
        "print(get_config('r2kd_mm::kd/kd_res14_res6_digits.py').model.type.__name__); "
        "mine = Config.fromfile('mine.py'); print(mine.train_cfg.max_epochs, mine.model.type.__name__)"
    )
    done = in_python('-W', 'ignore', '-c', code, cwd=trained, PYTHONPATH=str(installed))
    assert done.stdout.splitlines()[-2:] == ['LogitDistiller', '10 LogitDistiller'], done.stderr
    tool = installed / 'r2kd_mm/.mim/tools/train.py'
    name = 'r2kd_mm::supervised/res6_digits.py'
    done = in_python('-W', 'ignore', tool, name, *SHORT, cwd=trained, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    assert (trained / 'work_dirs/res6_digits/epoch_1.pth').is_file()


@pytest.mark.slow
def test_a_config_without_a_file_is_composed(installed, trained):
    name = 'r2kd-mixup_res14w16_mv2_glyph100'
    done = mim(installed, trained, 'run', 'r2kd_mm', 'compose_config', *name.split('_', 1), '--out', f'{name}.py')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'read_base' not in (trained / f'{name}.py').read_text()  # no import leads to an installed package
    few = [f'{loader}_dataloader.dataset.size=100' for loader in ('train', 'val', 'test')]
    untrained = ('model.teacher_ckpt=None', 'model.allow_untrained_teacher=True')
    done = mim(installed, trained, 'train', 'r2kd_mm', f'{name}.py', '--gpus', '0', *SHORT, *few, *untrained)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (trained / f'work_dirs/{name}/epoch_1.pth').is_file()
    tool = installed / 'r2kd_mm/.mim/tools/train.py'
    options = (*SHORT, *few, *untrained, '--resume')  # the run of the written file is resumed: the config is the same
    done = in_python(tool, f'r2kd_mm::r2kd/{name}.py', *options, cwd=trained, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    assert f'FutureWarning: there is no file r2kd_mm::r2kd/{name}.py. ' in done.stderr


def test_no_two_configs_have_one_name():
    """As mim looks for a config by the name of its file, in all folders."""
    names = [path.name for path in (toolbox.ROOT / 'configs').rglob('*.py') if path.parent.name != 'methods']
    assert sorted(names) == sorted(set(names))
