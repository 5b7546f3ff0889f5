"""Read the fields of a config that MMEngine has dumped, by parsing its text; the config is never run."""

from __future__ import annotations

import ast
from typing import Any


def config_fields(text: str) -> dict[str, Any]:
    """Return the values in the text of a dumped config, by dotted names such as ``train_cfg.max_epochs``.

    The text is parsed and never run, because the file may contain malicious code.

    Example:
        >>> config_fields("train_cfg = dict(max_epochs=240)")
        {'train_cfg.max_epochs': 240}
    """
    fields: dict[str, Any] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            fields |= flatten(_read_value(statement.value), statement.targets[0].id)
    return fields


def _read_value(node: ast.expr) -> Any:
    """Read a value of MMEngine's dump: dicts and lists of constants, and the text of anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {keyword.arg: _read_value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [None if key is None else ast.unparse(key).strip('\'"') for key in node.keys]
        return {key: _read_value(value) for key, value in zip(keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_read_value(item) for item in node.elts]
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)


def flatten(value: Any, name: str) -> dict[str, Any]:
    """Return the leaves of nested dicts and lists by dotted names; the names of hooks are their types."""
    if isinstance(value, dict) and value:
        return {leaf: x for key, item in value.items() for leaf, x in flatten(item, f'{name}.{key}').items()}
    if isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        names = [str(place) for place in range(len(value))]
        if name == 'custom_hooks':
            types = [str(item.get('type')).split('.')[-1] for item in value]
            names = [f'{kind}{types[:place].count(kind) or ""}' for place, kind in enumerate(types)]
        return flatten(dict(zip(names, value)), name)
    return {name: list(value) if isinstance(value, tuple) else value}
