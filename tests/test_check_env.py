"""The environment table is right on this machine, and names the remedy if a package is missing."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from r2kd_mm import check_env
from r2kd_mm.check_env import Line, Requirement, inspect_environment, main, report

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_VERSION = check_env._installed_version


@pytest.fixture
def installed(monkeypatch):
    """Pretend other versions: ``installed(torch='2.2.0', mmrazor=None)``; None is not installed."""

    def pretend(**versions):
        versions = {name.replace('_', '-'): version for name, version in versions.items()}
        monkeypatch.setattr(
            check_env, '_installed_version', lambda name: versions[name] if name in versions else REAL_VERSION(name)
        )

    return pretend


def line(subject: str) -> Line:
    (found,) = [line for line in inspect_environment() if line.subject == subject]
    return found


def test_training_can_work_here(capsys):
    assert main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == 'training can work'


def test_the_requirements_equal_those_that_pip_installs():
    rows = [row for row in (REPOSITORY / 'requirements' / 'runtime.txt').read_text().splitlines() if row[0] != '#']
    checked = {requirement.names[0]: requirement for requirement in check_env.REQUIREMENTS}
    for row in rows:
        name, bounds = re.fullmatch(r'([\w-]+)(.*)', row).groups()
        for bound in bounds.split(','):
            if bound.startswith('>='):
                assert check_env._parse(bound[2:]) == checked[name].minimum, name
            elif bound.startswith('<'):
                assert check_env._parse(bound[1:]) == checked[name].below, name
            elif bound.startswith('=='):
                assert check_env._parse(bound[2:]) == checked[name].minimum, name
                assert checked[name].below, f'{name} is pinned, so a newer one needs a line'


def test_a_missing_package_is_a_problem_with_its_remedy(installed, capsys):
    installed(mmrazor=None)
    assert main() == 1
    output = capsys.readouterr().out
    assert "-> pip install 'mmrazor>=1.0.0,<1.0.1'" in output
    assert output.splitlines()[-1] == 'training cannot work: see mmrazor'


def test_each_extra_of_a_user_is_listed():
    setup = (REPOSITORY / 'setup.py').read_text()
    extras = set(ast.literal_eval(re.search(r'for name in (\(.*?\))', setup, re.DOTALL)[1]))
    shown = {extra.install.split('[')[1].split(']')[0] for extra in check_env.EXTRAS if '[' in extra.install}
    assert shown == extras - {'docs', 'tests'}  # of those who develop it


def test_what_is_optional_is_listed_with_what_it_brings(installed):
    installed(scikit_learn=None, timm='1.0.31', tensorboard=None)
    rows = [row.split('  ') for row in report().split('optional\n')[1].splitlines()]
    rows = {row[1]: [cell.strip() for cell in row[2:] if cell.strip()] for row in rows if len(row) > 2}
    assert rows['scikit-learn'] == [
        'not installed',
        'the handwritten digits, so make demo and make compare',
        "pip install 'r2kd_mm[demo]'",
    ]
    assert rows['timm'] == ['1.0.31', 'teachers and students named timm/...']
    assert rows['tensorboard'][0] == 'not installed'
    assert 'scikit-learn' not in {entry.subject for entry in inspect_environment()}


def test_every_extra_of_the_package_that_is_named_brings_what_it_is_named_for():
    for extra in check_env.EXTRAS:
        if named := re.fullmatch(r"'r2kd_mm\[(\w+)]'", extra.install):
            file = REPOSITORY / 'requirements' / f'{named[1]}.txt'
            assert extra.name in file.read_text().split(), extra


def test_the_report_fits_one_screen_and_shows_no_fault_that_is_cured(capsys):
    cured = {entry.subject for entry in inspect_environment() if entry.status == 'cured'}
    assert 'checkpoints of the Runner' in cured or check_env._parse(REAL_VERSION('torch')) < (2, 6)
    assert main() == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 24
    assert not any(subject in shown for subject in cured)
    assert 'mmengine 0.10' in shown
    assert main(['--all']) == 0
    shown = capsys.readouterr().out
    assert all(subject in shown for subject in cured | {'einops', 'torchvision pair'})


@pytest.mark.parametrize(
    ('package', 'version', 'status'),
    [
        ('mmcv_lite', '2.1.0', 'ok'),
        ('mmcv_lite', '2.2.0', 'PROBLEM'),
        ('torch', '2.13.0+cu130', 'ok'),
        ('torch', '2.1.2', 'ok'),
        ('torch', '2.0.1', 'PROBLEM'),
        ('torch', '3.0.0', 'PROBLEM'),
        ('mmengine', '0.10.7', 'ok'),
        ('mmengine', '0.10.6', 'PROBLEM'),
        ('setuptools', '82.0.0', 'note'),
        ('setuptools', '81.0.0.post1', 'ok'),
        ('numpy', '2.0.0rc1', 'ok'),
    ],
)
def test_a_version_is_held_against_its_range(installed, package, version, status):
    installed(**{package: version})
    assert line(package.replace('_', '-')).status == status


def test_another_distribution_of_the_same_package_counts(installed):
    installed(opencv_python=None, opencv_python_headless='4.11.0')
    assert line('opencv-python-headless').status == 'ok'
    assert 'opencv-python' not in {entry.subject for entry in inspect_environment()}


@pytest.mark.parametrize(
    ('versions', 'subject'),
    [
        (dict(torch='2.1.2', numpy='2.0.0'), 'torch with numpy'),
        (dict(numpy='1.26.4', opencv_python='4.12.0.88'), 'opencv with numpy'),
    ],
)
def test_versions_that_clash_are_a_problem(installed, versions, subject):
    installed(**versions)
    assert line(subject).status == 'PROBLEM'
    assert 'pip install' in line(subject).remedy


def test_torchvision_of_another_torch_is_named(installed, monkeypatch):
    import torch

    monkeypatch.setattr(torch, '__version__', '2.11.0+cpu')
    installed(torchvision='0.28.0')
    assert line('torchvision pair').status == 'note'
    assert line('torchvision pair').remedy == "pip install 'torchvision==0.26.*'"
    installed(torchvision='0.26.0')
    assert line('torchvision pair').status == 'ok'


def test_every_line_that_is_not_ok_has_a_remedy(installed):
    installed(torch='1.0', numpy='3.0', mmrazor=None, setuptools='90', opencv_python=None, joblib=None)
    wrong = [entry for entry in inspect_environment() if entry.status != 'ok']
    assert len(wrong) >= 6
    assert all(entry.remedy for entry in wrong)
    assert not any(entry.remedy for entry in inspect_environment() if entry.status == 'ok')


def test_the_report_shows_what_is_wrong_in_an_aligned_table():
    lines = [
        Line('python', '3.11.7', '>=3.10', 'ok'),
        Line('a', '1', 'any', 'ok'),
        Line('longer', '10', '>=2', 'PROBLEM', 'fix it'),
        Line('fault', 'affected', '', 'cured', 'left out'),
    ]
    verdict = 'training cannot work: see longer'
    table = [
        '        found  supported  status',
        'longer  10     >=2        PROBLEM',
        '    -> fix it',
    ]
    first = ['python 3.11.7', '3 of 4 checks passed (--all lists them)']
    assert report(lines) == '\n'.join([*first, '', *table, '', verdict])
    whole = report(lines, everything=True).splitlines()
    assert whole[:3] == [
        '        found     supported  status',
        'python  3.11.7    >=3.10     ok',
        'a       1         any        ok',
    ]
    assert whole[-1] == verdict


def test_a_range_reads_as_pip_writes_it():
    assert check_env._range(Requirement(('x',), (1, 2), (2,))) == '>=1.2,<2'
    assert check_env._range(Requirement(('x',))) == 'any'


# -S hides the site packages: a Python on which nothing has been installed
@pytest.mark.parametrize(
    'command', [['tools/check_env.py'], ['-m', 'r2kd_mm.check_env'], ['-c', 'import r2kd_mm.losses']]
)
def test_without_any_package_the_table_is_shown_all_the_same(command):
    process = subprocess.run([sys.executable, '-S', *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert process.returncode == 1
    output = process.stdout + process.stderr
    assert 'RuntimeWarning' not in output  # of runpy: a module that importing its package has imported already
    assert "-> pip install 'torch>=2.1,<3'" in output
    assert 'training cannot work: see torch, torchvision, numpy' in output
    if command[0] == '-c':
        assert output.count('UnusablePackages: r2kd_mm cannot use the installed packages: No module named') == 1


@pytest.mark.parametrize(
    'command',
    [
        pytest.param('import r2kd_mm.pruning.channels', id='imported'),
        pytest.param(
            "from r2kd_mm.registry import MODELS; MODELS.get('SingleTeacherDistill')",
            id='looked up',
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_wrong_mmcv_ends_in_the_table_too(tmp_path, command):
    """mmrazor asserts mmcv <= 2.1.0 when it is imported."""
    import mmcv

    source = Path(mmcv.__file__)
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text(
        f'__path__.append({str(source.parent)!r})\n{source.read_text()}\n__version__ = "2.2.0"\n'
    )
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', f'import sys; sys.path.insert(0, {str(tmp_path)!r}); {command}'],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert (
        'UnusablePackages: r2kd_mm cannot use the installed packages: MMCV==2.2.0 is used but incompatible'
        in process.stderr
    )
    assert 'supported' in process.stderr
