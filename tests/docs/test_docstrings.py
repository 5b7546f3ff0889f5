"""The examples in the docstrings of the library print what they show."""

import ast
import doctest
import importlib
import inspect
import re

import pytest
from mmengine.logging import MMLogger
from toolbox import ROOT

PACKAGE = ROOT / 'r2kd_mm'
MODULES = [
    '.'.join(source.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    for source in sorted(PACKAGE.rglob('*.py'))
    if '>>> ' in source.read_text()
]
SLOW = ('r2kd_mm.export.teachers',)  # writes ONNX files
PACKAGES = ['.'.join(init.parent.relative_to(ROOT).parts) for init in sorted(PACKAGE.rglob('__init__.py'))]
SINGLE = re.findall(r'automodule:: (\S+)', (ROOT / 'docs/reference/modules.md').read_text())
SINGLE.remove('r2kd_mm.check_env')  # it reports what is installed here; README shows its command


@pytest.mark.parametrize('module', PACKAGES + SINGLE)
def test_everything_public_has_an_example(module):
    found = importlib.import_module(module)
    names = found.__all__ if module in PACKAGES else [name for name in vars(found) if not name.startswith('_')]
    public = [(name, getattr(found, name)) for name in names]
    public = [(name, value) for name, value in public if inspect.isfunction(value) or inspect.isclass(value)]
    own = [(name, value) for name, value in public if module in PACKAGES or value.__module__ == module]
    assert own or module in PACKAGES
    assert [name for name, value in own if '>>> ' not in (value.__doc__ or '')] == []


def test_an_argument_is_described_by_a_phrase_that_stands_alone():
    """Not by "Of the run.", "Those of the photos." or "Likewise.", which are understood only with the line above."""
    described = re.compile(r'^\s+\w+: (Of|That of|Those|Their|The same of|Likewise|As above)\b.*')
    lines = [
        f'{source.relative_to(ROOT)}:{number}: {line.strip()}'
        for source in sorted(PACKAGE.rglob('*.py'))
        for number, line in enumerate(source.read_text().splitlines(), 1)
        if described.match(line)
    ]
    assert lines == []


def test_a_docstring_opens_with_a_verb_or_a_noun():
    opening = re.compile(r'(What|Whether|How|Of|That|Those|As for|Likewise|Where|Which)\b')
    found = [
        f'{source.relative_to(ROOT)}:{node.body[0].lineno}'
        for source in sorted(PACKAGE.rglob('*.py'))
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and opening.match(ast.get_docstring(node) or '')
    ]
    assert found == []


@pytest.mark.parametrize(
    'module', [pytest.param(module, marks=pytest.mark.slow if module in SLOW else ()) for module in MODULES]
)
def test_the_examples_hold(module, example_folder, monkeypatch):
    monkeypatch.chdir(example_folder)
    MMLogger.get_current_instance()  # one that is made within an example would print into it
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.testmod(importlib.import_module(module), optionflags=options)
    assert results.attempted > 0
    assert results.failed == 0
