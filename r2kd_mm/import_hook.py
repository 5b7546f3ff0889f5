"""Register a function that wraps the import of a module, for example to patch the module afterwards.

If the module is already imported, the function runs at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Load = Callable[[], None]
Wrapper = Callable[[Load], None]

_wrappers: dict[str, list[Wrapper]] = {}


def wrap_import(name: str, wrapper: Wrapper) -> None:
    """Call ``wrapper(load)`` when the module ``name`` is imported; ``load()`` executes the module.

    If the module has been imported already, ``wrapper`` is called at once, with a ``load`` that does nothing. A second
    call with the same arguments does nothing.

    Args:
        name: Full name of the module; or ``'package.*'`` for all modules below a package that are imported later.
        wrapper: Function that calls ``load`` at least once, and may run code before and after.

    Example:
        >>> def announce(load):
        ...     load()
        ...     print('tabnanny can be used')
        >>> wrap_import('tabnanny', announce)
        >>> import tabnanny
        tabnanny can be used
    """
    if not any(isinstance(finder, _WrappingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WrappingFinder())
    wrappers = _wrappers.setdefault(name, [])
    if wrapper not in wrappers:
        wrappers.append(wrapper)
        if name in sys.modules:
            wrapper(_do_nothing)


class _WrappingFinder(MetaPathFinder):
    """Finder that finds a module as Python does, and loads it through its wrappers."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, dot, _ = name.partition('.')
        wrappers = _wrappers.get(name, []) + (_wrappers.get(f'{package}.*', []) if dot else [])
        if not wrappers:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _WrappingLoader(spec.loader, wrappers)
        return spec


class _WrappingLoader(Loader):
    def __init__(self, loader: Loader, wrappers: list[Wrapper]) -> None:
        self.loader = loader
        self.wrappers = wrappers

    def __getattr__(self, name: str) -> Any:
        if name == 'loader':  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.loader, name)  # get_code, for `python -m`, and whatever else it can

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # its own loader, at which inspect and importlib.resources look
        module.__loader__ = module.__spec__.loader = self.loader  # type: ignore[union-attr]
        load = partial(self.loader.exec_module, module)
        for wrapper in self.wrappers:
            load = partial(wrapper, load)
        load()


def _do_nothing() -> None:
    pass
