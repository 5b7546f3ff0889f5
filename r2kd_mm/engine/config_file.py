"""Read a config file, say where an error is, and report fields that do not exist, such as typos."""

from __future__ import annotations

import ast
import builtins
import difflib
import os
import re
import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine import load
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.utils import get_installed_path

from r2kd_mm.config_folder import base_folder
from r2kd_mm.engine.compose import existing_config, find_composition
from r2kd_mm.engine.resume import warn

# How alike two names must be, in [0, 1], for one to be a typo of the other: train_config and train_cfg are at 0.86.
ALIKE = 0.81
# Fields of MMCV 1, and their replacements.
FORMER = {
    'checkpoint_config': 'default_hooks.checkpoint',
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'log_config': 'default_hooks.logger',
    'lr_config': 'param_scheduler',
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'runner': 'train_cfg',
}
READ_BY_CONFIG = {'custom_imports'}  # by MMEngine, while it reads the file
_OF_BASE = re.compile(r'_base_\.(\w+)')  # how a text config names a variable of its base


def read_config(path: str, fields: Collection[str]) -> Config:
    """Read a config file, and raise if it sets a field that does not exist.

    A variable that the config uses itself may have any name. An unused variable is an error if its name resembles a
    field, is a field of MMCV 1, or if a base config has already read it. Other unused variables only cause a warning.

    Args:
        path: A file, or ``r2kd_mm::<method>/<name>.py`` for an installed config. A config whose file was removed from
            the package is composed.
        fields: Names of the fields that exist.

    Raises:
        ValueError: The config has an error, reported with file and line, or sets an unknown field.
        OSError: The file does not exist, and the config cannot be composed.
    """
    with existing_config(path) as file:
        try:
            cfg = get_config(file) if '::' in file else Config.fromfile(file)
        except Exception as error:
            place = _place_of(error, file)
            if place is None:
                raise
            raise ValueError(f'{place}: {_described(error)}{_way_out(error)}') from error
        _check_names(cfg, list(_read_sources(Path(cfg.filename))), fields)
    return cfg


@dataclass
class _Source(ast.NodeVisitor):
    """Names that a config file sets at its top level, by line, and names whose values it uses.

    A change of a variable, as in ``a.b = 1`` or ``a.update(b=1)``, does not count as use.
    """

    path: Path
    is_set: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    depth: int = 0  # of functions and classes

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._visit_target(target)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._visit_target(node.target)
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_target(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._visit_target(target)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._visit_target(node.value.func)
            for argument in (*node.value.args, *node.value.keywords):
                self.visit(argument)
        else:
            self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and not hasattr(builtins, node.id):
            self.used.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.used.update(_OF_BASE.findall(ast.unparse(node)))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.used.update(_OF_BASE.findall(node.value))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def _visit_target(self, node: ast.expr) -> None:
        """Visit an assigned or changed expression: its root is not used, other names in it are."""
        if isinstance(node, ast.Name):
            if self.depth == 0 and isinstance(node.ctx, ast.Store):
                self.is_set.setdefault(node.id, node.lineno)
        elif isinstance(node, ast.Attribute):
            self._visit_target(node.value)
        elif isinstance(node, ast.Subscript):
            self._visit_target(node.value)
            self.visit(node.slice)
        elif isinstance(node, (ast.Tuple, ast.List)):
            for item in node.elts:
                self._visit_target(item)
        else:
            self.visit(node)


def _read_sources(path: Path) -> Iterator[_Source]:
    """Read a config file, and then the files that it inherits from."""
    source = _Source(path)
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.py':
        tree = ast.parse(text, filename=str(path))
        source.visit(tree)
    else:
        lines = text.splitlines()
        for name in load(path):
            numbers = (number for number, line in enumerate(lines, 1) if line.strip(' "\'').startswith(name))
            source.is_set[name] = next(numbers, 1)
        tree = ast.Module([], [])
    source.is_set.pop('_base_', None)
    yield source
    for base in _bases(path, tree):
        yield from _read_sources(base)


def _bases(path: Path, tree: ast.Module) -> Iterator[Path]:
    for node in tree.body:
        if isinstance(node, ast.With):  # read_base()
            for line in node.body:
                if isinstance(line, ast.ImportFrom) and line.module:
                    parts = line.module.split('.')
                    folder = path.parents[line.level - 1] if line.level else _folder_of(parts.pop(0))
                    yield folder.joinpath(*parts).with_suffix('.py')
    for base in Config._get_base_files(str(path)):
        yield Path(Config._get_cfg_path(base, str(path))[0])


def _folder_of(package: str) -> Path:
    return Path(base_folder(package, get_installed_path(package)))


def _check_names(cfg: Config, sources: list[_Source], fields: Collection[str]) -> None:
    """Refuse names that nothing reads and that were probably meant to be read."""
    leaf, *bases = sources
    used = set().union(*(source.used for source in sources))
    for source in sources:
        for name, line in source.is_set.items():
            if name in fields or name in used or name in READ_BY_CONFIG or _is_part(cfg.get(name), cfg, fields):
                continue
            close = difflib.get_close_matches(name, fields, n=1, cutoff=ALIKE)
            if name in FORMER:
                _object(source, line, f'no run reads {name!r}, a field of MMCV 1; its place is {FORMER[name]}')
            elif close:
                _object(
                    source,
                    line,
                    f'no run reads {name!r}, and nothing in the config uses it; did you mean {close[0]!r}? A helper '
                    'variable that is not in use yet needs a name that resembles no field',
                )
    for name, line in leaf.is_set.items():
        if name in fields or name in leaf.used or name in READ_BY_CONFIG:
            continue
        if any(name in base.is_set and name in used for base in bases):
            _object(
                leaf,
                line,
                f'{name!r} is set after the base has used it, so it changes nothing; set the field that it went into, '
                'such as model.teacher_ckpt or train_dataloader.dataset',
            )
        elif name not in used and leaf.used:  # a config that a run has written uses nothing
            warn(f'{_place(leaf.path, line)}: nothing uses {name!r}')


def _object(source: _Source, line: int, message: str) -> None:
    """Refuse a config; only warn about one of an installed package, which its user cannot change."""
    message = f'{_place(source.path, line)}: {message}'
    if '.mim' not in source.path.parts:
        raise ValueError(message)
    warn(message)


def _place(path: Path | str, line: int | None) -> str:
    return f'config {str(path)!r}, line {line}'


def _is_part(value: Any, cfg: Config, fields: Collection[str]) -> bool:
    """Tell whether a dict or list is part of a field; a config written by a run holds its helpers by value."""
    if not isinstance(value, (dict, list)) or not value:
        return False

    def holds(node: Any) -> bool:
        if node == value:
            return True
        items = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
        return any(map(holds, items))

    return any(holds(cfg[name]) for name in fields if name in cfg)


def _described(error: Exception) -> str:
    if type(error) is RuntimeError and not error.args:  # of MMEngine's LazyObject, which says no more
        return (
            'what a config imports is not there while it is read: it can be named, as in dict(type=NAME), but not '
            'called; if it has to be, put the call into a module of your own and name that'
        )
    return traceback.format_exception_only(error)[-1].strip()


def _way_out(error: Exception) -> str:
    """Return the command that writes a removed base, or nothing if the error has another cause."""
    missing = re.search(r'(.*\.py) not found!', str(error))  # of MMEngine, about a base
    composition = find_composition(missing.group(1)) if missing else None
    if composition is None:
        return ''
    return f'. It was removed; write it with {composition.command(os.path.relpath(composition.leaf))}'


def _place_of(error: Exception, path: str) -> str | None:
    """Locate the config that raised ``error``: file and line, only the file, or ``None`` if the error names it."""
    if isinstance(error, SyntaxError):
        try:
            list(_read_sources(Path(path)))
        except SyntaxError as found:
            return _place(found.filename or path, found.lineno)
    frames = traceback.extract_tb(error.__traceback__)
    for caller, frame in reversed(list(zip(frames, frames[1:]))):
        if frame.name == '<module>' and Path(caller.filename).parts[-2:] == ('config', 'config.py'):
            return _place(frame.filename, frame.lineno)
    return None if isinstance(error, OSError) else f'config {path!r}'
