"""An import wrapper runs once for its module, whether the module is imported before or after."""

import copy
import importlib
import inspect
import runpy
import sys

import pytest

from r2kd_mm import import_hook
from r2kd_mm.import_hook import wrap_import


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``wrapped`` with the modules ``a``, ``b``, which imports ``a``, and ``broken``."""
    folder = tmp_path / 'wrapped'
    folder.mkdir()
    sources = dict(__init__='', a='"""Of a."""\nvalue = 1\n', b='from wrapped.a import value\n', broken='1 / 0\n')
    for name, source in sources.items():
        (folder / f'{name}.py').write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(import_hook, '_wrappers', {})
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.partition('.')[0] == 'wrapped']:
        del sys.modules[name]


class Change:
    """Add 1 to ``wrapped.a.value`` after the import, and count."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, load) -> None:
        load()
        self.calls += 1
        sys.modules['wrapped.a'].value += 1


@pytest.mark.parametrize('imported_first', [True, False])
def test_the_order_of_imports_does_not_matter(package, imported_first):
    change = Change()
    if imported_first:
        importlib.import_module('wrapped.a')
    for _ in range(2):
        wrap_import('wrapped.a', change)
    assert importlib.import_module('wrapped.b').value == (1 if imported_first and change.calls == 0 else 2)
    assert change.calls == 1


def test_a_wrapped_module_runs_as_a_script(package):
    """As `python -m wrapped.a` does."""
    wrap_import('wrapped.*', Change())
    assert runpy.run_module('wrapped.a', run_name='__main__')['value'] == 1


def test_the_loader_of_a_wrapped_module_can_be_copied(package):
    wrap_import('wrapped.a', Change())
    loader = importlib.import_module('wrapped.a').__spec__.loader
    assert copy.copy(loader).get_code('wrapped.a').co_filename == loader.get_code('wrapped.a').co_filename


def test_nothing_is_imported_for_a_wrapper(package):
    wrap_import('wrapped.a', Change())
    assert not {'wrapped', 'wrapped.a'} & sys.modules.keys()


def test_several_wrappers_and_one_for_a_whole_package_surround_a_module(package):
    seen = []

    def around(name):
        def wrapper(load):
            seen.append(f'{name} (')
            load()
            seen.append(f') {name}')

        return wrapper

    wrap_import('wrapped.a', around('first'))
    wrap_import('wrapped.a', around('second'))
    wrap_import('wrapped.*', around('all'))
    importlib.import_module('wrapped.b')
    # wrapped.b, of which only the last knows, imports wrapped.a; wrapped itself is not below the package
    assert seen == ['all (', 'all (', 'second (', 'first (', ') first', ') second', ') all', ') all']


def test_a_wrapper_may_load_again_where_the_first_time_failed(package):
    def once_more(load):
        with pytest.raises(ZeroDivisionError):
            load()
        (package / 'broken.py').write_text('value = 2\n')
        importlib.invalidate_caches()
        load()

    wrap_import('wrapped.broken', once_more)
    assert importlib.import_module('wrapped.broken').value == 2


def test_an_error_leaves_no_module(package):
    wrap_import('wrapped.broken', lambda load: load())
    with pytest.raises(ZeroDivisionError):
        importlib.import_module('wrapped.broken')
    assert 'wrapped.broken' not in sys.modules


def test_the_module_looks_as_without_a_wrapper(package):
    wrap_import('wrapped.a', lambda load: load())
    module = importlib.import_module('wrapped.a')
    assert inspect.getsource(module) == (package / 'a.py').read_text()
    assert type(module.__loader__) is type(module.__spec__.loader) is type(sys.modules['wrapped'].__loader__)


def test_a_module_that_is_not_there_is_not_found(package):
    wrap_import('wrapped.c', lambda load: load())
    assert importlib.util.find_spec('wrapped.c') is None
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'wrapped\.c'"):
        importlib.import_module('wrapped.c')
