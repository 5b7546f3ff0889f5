"""The examples in the docstrings of the library print what they show."""

import doctest
import importlib
import inspect
import re

import pytest
from mmengine.logging import MMLogger
from toolbox import ROOT

PACKAGE = ROOT / 'r2kd_mm'
MODULES = [
    '.'.join(source.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    for source in sorted(PACKAGE.rglob('*.py'))
    if '>>> ' in source.read_text()
]
PACKAGES = ['.'.join(init.parent.relative_to(ROOT).parts) for init in sorted(PACKAGE.rglob('__init__.py'))]
SINGLE = re.findall(r'automodule:: (\S+)', (ROOT / 'docs/reference/modules.md').read_text())
SINGLE.remove('r2kd_mm.check_env')  # it reports what is installed here; README shows its command


@pytest.mark.parametrize('module', PACKAGES + SINGLE)
def test_everything_public_has_an_example(module):
    found = importlib.import_module(module)
    names = found.__all__ if module in PACKAGES else [name for name in vars(found) if not name.startswith('_')]
    public = [(name, getattr(found, name)) for name in names]
    public = [(name, value) for name, value in public if inspect.isfunction(value) or inspect.isclass(value)]
    own = [(name, value) for name, value in public if module in PACKAGES or value.__module__ == module]
    assert own or module in PACKAGES
    assert [name for name, value in own if '>>> ' not in (value.__doc__ or '')] == []


@pytest.mark.parametrize('module', MODULES)
def test_the_examples_hold(module, example_folder, monkeypatch):
    monkeypatch.chdir(example_folder)
    MMLogger.get_current_instance()  # one that is made within an example would print into it
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.testmod(importlib.import_module(module), optionflags=options)
    assert results.attempted > 0
    assert results.failed == 0
