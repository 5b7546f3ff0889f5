"""The targets of make have the right commands, as a dry run (``make -n``) prints them."""

import os
import re
import subprocess

import pytest
import toolbox


def make(*arguments: str) -> subprocess.CompletedProcess:
    # without what a make around the tests hands on, and as if nothing were installed
    environment = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'MFLAGS', 'STACK')}
    command = ['make', '-nB', '--no-print-directory', *arguments]
    return subprocess.run(command, cwd=toolbox.ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(('stack', 'folder'), [('oldest', '.venv-oldest'), ('newest', '.venv-newest')])
def test_an_end_of_the_range_is_tested_in_an_environment_of_its_own(stack, folder):
    done = make(f'STACK={stack}', 'test')
    assert f'{folder}/bin/python -m pip install --disable-pip-version-check -r requirements/{stack}.txt' in done.stdout
    assert re.search(rf'^OMP_NUM_THREADS=1 {folder}/bin/python -m pytest ', done.stdout, re.MULTILINE)
    assert '.venv/' not in done.stdout


def test_the_pins_are_tested_where_nothing_is_said():
    commands = make('STACK=tested', 'test').stdout
    assert make('test').stdout == commands
    assert ' .venv/bin/python -m pytest ' in commands


def test_an_unknown_stack_is_refused():
    done = make('STACK=latest', 'test')
    assert done.returncode
    assert "STACK must be tested, oldest or newest, got 'latest'" in done.stderr


@pytest.mark.parametrize('stack', ['oldest', 'tested', 'newest'])
def test_the_pins_of_torch_and_torchvision_belong_together(stack):
    text = (toolbox.ROOT / f'requirements/{stack}.txt').read_text()
    torch, torchvision = (re.search(rf'^{name}==([\d.]+)$', text, re.MULTILINE)[1] for name in ('torch', 'torchvision'))
    assert int(torchvision.split('.')[1]) == int(torch.split('.')[1]) + 15  # 0.(15 + n) belongs to 2.n


def test_the_gpu_report_installs_nothing():
    commands = make('gpu', 'DEVICE=pretend', 'PYTHON=python3').stdout
    assert commands == 'PYTHONPATH=. python3 benchmarks/gpu/report.py --device pretend\n'
