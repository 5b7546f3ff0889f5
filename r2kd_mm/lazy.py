"""Import each exported name of a package at its first use, so that using one module does not import the others."""

from __future__ import annotations

import ast
import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def import_on_demand(package: str) -> Callable[[str], Any]:
    """Make a package's ``__getattr__`` (PEP 562), which imports an exported name at its first use.

    The imports below ``if TYPE_CHECKING:`` in the package's ``__init__.py`` list the names and their modules. Type
    checkers and editors read them too. The package ``lazy_loader`` does the same with a ``.pyi`` file.

    Args:
        package: The ``__name__`` of the package.

    Returns:
        Function that imports the object with a given name, and stores the object in the package.
    """
    source = pkgutil.get_data(package, '__init__.py') or b''
    modules = {
        alias.name: node.module
        for block in ast.parse(source).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def __getattr__(name: str) -> Any:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__


def import_all(package: str) -> None:
    """Import a package and all that it exports."""
    module = import_module(package)
    for name in getattr(module, '__all__', ()):
        getattr(module, name)
