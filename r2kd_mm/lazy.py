"""Import the names of a package when they are first used, so that one of its modules can be imported alone."""

from __future__ import annotations

import ast
import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def import_on_demand(package: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package (PEP 562).

    The package says in one place what it exports and where that is: the imports below ``if TYPE_CHECKING:`` in its
    ``__init__.py``, which type checkers and editors read as well. ``lazy_loader`` reads a ``.pyi`` file in this way.

    Args:
        package: Its ``__name__``.

    Returns:
        A function that imports what a name stands for, and keeps it in the package.
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
