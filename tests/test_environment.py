import json
import subprocess
from importlib.metadata import version

import toolbox
import torch

from r2kd_mm import environment as module
from r2kd_mm.environment import commit, environment, versions


def test_a_number_is_recorded_with_versions_commit_and_machine():
    found = environment()
    assert found['versions']['torch'] == version('torch')
    assert found['threads'] == torch.get_num_threads()
    assert list(found)[:2] == ['date', 'commit']
    assert json.loads(json.dumps(found)) == found


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(module, 'PACKAGES', ('torch', 'no-such-package'))
    assert versions()['no-such-package'] is None
    assert versions()['torch'] == version('torch')


def test_the_commit_is_that_of_the_package_wherever_it_is_asked_for(monkeypatch, tmp_path):
    head = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=toolbox.ROOT, capture_output=True, text=True)
    monkeypatch.chdir(tmp_path)
    assert (commit() or '').rstrip('+') == head.stdout.strip()


def test_an_installed_package_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(module, '__file__', str(tmp_path / 'environment.py'))
    assert commit() is None
