"""Make the tables of the page reference/config from signatures and docstrings, while conf.py builds the site."""

import importlib
import inspect
import re

COMMON = {'loss_weight': 'Factor of the loss.'}
MARK = re.compile(r'^<!-- fields: (\S+) -->$', re.MULTILINE)


def find(name: str):
    """Return the class or function of a full name."""
    module, _, attribute = name.rpartition('.')
    return getattr(importlib.import_module(module), attribute)


def described(thing) -> dict[str, str]:
    """Return the text of each argument in a docstring of Google's form."""
    text = re.search(r'^Args:\n((?:    .*\n|\n)+)', (inspect.getdoc(thing) or '') + '\n', re.MULTILINE)
    found = re.findall(r'^    (\w+): (.*(?:\n        .*|\n(?=\n        ))*)', text[1] if text else '', re.MULTILINE)
    return {name: ' '.join(description.split()) for name, description in found}


def descriptions(cls: type) -> dict[str, str]:
    """Return the texts of a class, of the function that its first line points to, and of its base classes."""
    found: dict[str, str] = {}
    for part in [*reversed(inspect.getmro(cls)), cls]:
        if not part.__module__.startswith('r2kd_mm'):
            continue
        pointed = re.match(r':func:`(\w+)`', vars(part).get('__doc__') or '')
        if pointed:
            found.update(described(getattr(importlib.import_module(part.__module__), pointed[1])))
        found.update(described(part))
    return found


def fields(cls: type) -> list[tuple[str, str, str, str]]:
    """Return name, type, default and description of each field of a class; without a default it must be given."""
    texts = {**COMMON, **descriptions(cls)}
    rows = []
    for name, parameter in inspect.signature(cls).parameters.items():
        kind = (
            parameter.annotation
            if isinstance(parameter.annotation, str)
            else inspect.formatannotation(parameter.annotation)
        )
        default = 'must be given' if parameter.default is parameter.empty else f'`{parameter.default!r}`'
        rows.append((name, kind, default, texts.get(name, '')))
    return rows


def plain(text: str) -> str:
    """Turn the markup of a docstring into that of a Markdown table."""
    text = re.sub(r':\w+(?::\w+)?:`~?(?:[\w.]*\.)?([\w]+)`', r'`\1`', text.replace('``', '`'))
    text = re.sub(r':math:`([^`]*)`', r'`\1`', text)
    return text.replace('|', '\\|')


def table(name: str) -> str:
    """Return the table of a class, in Markdown."""
    rows = [
        f'| `{field}` | `{plain(kind)}` | {plain(default)} | {plain(text)} |'
        for field, kind, default, text in fields(find(name))
    ]
    return '\n'.join(['| field | type | default | meaning and range |', '| --- | --- | --- | --- |', *rows])


def fill(source: str) -> str:
    """Put the tables in the places of their marks."""
    return MARK.sub(lambda mark: table(mark[1]), source)
