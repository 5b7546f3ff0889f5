"""The examples in the docstrings of the library print what they show."""

import doctest
import importlib

import pytest
from mmengine.logging import MMLogger
from toolbox import ROOT

MODULES = [
    '.'.join(source.relative_to(ROOT).with_suffix('').parts)
    for source in sorted((ROOT / 'r2kd_mm').rglob('*.py'))
    if '>>> ' in source.read_text()
]


@pytest.mark.parametrize('module', MODULES)
def test_the_examples_hold(module):
    MMLogger.get_current_instance()  # one that is made within an example would print into it
    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0
    assert results.failed == 0
