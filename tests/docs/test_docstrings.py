"""The examples in the docstrings of the library print what they show."""

import doctest
import importlib
import inspect

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


@pytest.mark.parametrize('package', PACKAGES)
def test_everything_public_has_an_example(package):
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}
    public = {name: value for name, value in public.items() if inspect.isfunction(value) or inspect.isclass(value)}
    assert [name for name, value in public.items() if '>>> ' not in (value.__doc__ or '')] == []


@pytest.mark.parametrize('module', MODULES)
def test_the_examples_hold(module, example_folder, monkeypatch):
    monkeypatch.chdir(example_folder)
    MMLogger.get_current_instance()  # one that is made within an example would print into it
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.testmod(importlib.import_module(module), optionflags=options)
    assert results.attempted > 0
    assert results.failed == 0
