"""The import paths of version 0.1 still work, with a warning."""

import sys
import warnings
from importlib import import_module

import pytest

from r2kd_mm.moved import MODULES, NAMES, new_name


def forget(monkeypatch, *modules):
    """Make Python look for these modules again."""
    for module in modules:
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.parametrize('old', MODULES)
def test_an_old_module_is_the_new_one_with_a_warning(monkeypatch, old):
    new = import_module(MODULES[old])
    spec = new.__spec__
    forget(monkeypatch, old)
    with pytest.warns(FutureWarning, match=f'{old} is now {MODULES[old]}; the old name works until version 0.3'):
        assert import_module(old) is new
    assert new.__spec__ is spec
    assert new.__name__ == MODULES[old]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        import_module(old)  # one warning


@pytest.mark.parametrize('old', NAMES)
def test_an_old_name_is_the_new_one_with_a_warning(old):
    module, _, name = old.rpartition('.')
    place, _, new = NAMES[old].partition(':')
    now = getattr(import_module(place), new or name)
    with pytest.warns(FutureWarning, match=f'{old} is now {place}.{new or name};'):
        assert getattr(import_module(module), name) is now


def test_what_lies_below_a_package_moves_with_it():
    assert new_name('r2kd_mm.analysis.page') == 'r2kd_mm.report.page'
    assert new_name('r2kd_mm.losses.kd') is None


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match='r2kd_mm.distillers.nothing'):
        import_module('r2kd_mm.distillers.nothing')
    with pytest.raises(AttributeError, match="module 'r2kd_mm.distillers' has no attribute 'nothing'"):
        import_module('r2kd_mm.distillers').nothing  # noqa: B018
