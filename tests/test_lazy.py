"""A package with lazy imports has all names of ``__all__``; a registry look-up imports its modules."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import r2kd_mm
from r2kd_mm import registry
from r2kd_mm.lazy import import_all, import_on_demand

PACKAGE = Path(r2kd_mm.__file__).parent
LAZY = sorted(init.parent.name for init in PACKAGE.glob('*/__init__.py') if 'import_on_demand' in init.read_text())


@pytest.mark.parametrize('name', LAZY)
def test_every_name_of_a_package_is_found_in_its_module(name):
    package = import_module(f'r2kd_mm.{name}')
    package.__dict__.pop(package.__all__[0], None)  # as before its first use
    import_all(package.__name__)
    for exported in package.__all__:
        value = vars(package)[exported]
        assert getattr(value, '__module__', 'r2kd_mm').startswith('r2kd_mm')


@pytest.mark.parametrize('name', LAZY)
def test_another_name_is_not_there(name):
    package = import_module(f'r2kd_mm.{name}')
    with pytest.raises(AttributeError, match=rf"module 'r2kd_mm\.{name}' has no attribute 'no_such_name'"):
        _ = package.no_such_name
    with pytest.raises(ImportError):
        exec(f'from r2kd_mm.{name} import no_such_name')


def test_a_name_stays_in_the_package(monkeypatch):
    package = import_module('r2kd_mm.engine')
    monkeypatch.delitem(vars(package), 'RunStopped', raising=False)
    found = import_on_demand('r2kd_mm.engine')('RunStopped')
    assert vars(package)['RunStopped'] is found


def test_what_is_registered_anywhere_in_the_library_is_found():
    """By its name alone, since the packages that say ``register_module`` are imported when a name is looked up."""
    missing = []
    for source in sorted(PACKAGE.rglob('*.py')):
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith('.register_module'):
                    own = getattr(registry, ast.unparse(decorator.func).split('.')[0])
                    own.import_from_location()
                    if node.name not in own.module_dict:
                        missing.append(node.name)
    assert not missing
    assert len(registry.MODELS.module_dict) > 20
