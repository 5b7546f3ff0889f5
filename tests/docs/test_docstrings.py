"""The examples in the docstrings of the library print what they show."""

import doctest
import importlib
import inspect

import pytest
from mmengine.logging import MMLogger
from toolbox import ROOT

MODULES = [
    '.'.join(source.relative_to(ROOT).with_suffix('').parts)
    for source in sorted((ROOT / 'r2kd_mm').rglob('*.py'))
    if '>>> ' in source.read_text()
]
# packages all of whose public functions and classes have an example, without those that have none: base classes, and
# what needs the folder of a run, which no example of a few lines has
WITH_EXAMPLES = {
    'augmentations': {'Draws'},
    'backbones': set(),
    'corruptions': set(),
    'distillers': set(),
    'export': {'ExportError', 'Exported', 'Predictor', 'Student', 'export_student', 'load_student', 'network_source'},
    'functional': set(),
    'hooks': set(),
    'losses': {'LogitLoss'},
    'metrics': set(),
    'networks': set(),
    'pruning': {'Pruner'},
    'runs': {
        'State',
        'collect',
        'complete',
        'last_checkpoint',
        'load_config',
        'load_network',
        'load_result',
        'look_at',
        'report_failures',
        'run_to_exit',
        'trained_student',
        'validation_logits',
    },
    'teachers': set(),
}


@pytest.mark.parametrize('package', WITH_EXAMPLES)
def test_everything_public_has_an_example(package):
    module = importlib.import_module(f'r2kd_mm.{package}')
    public = {name: getattr(module, name) for name in module.__all__ if name not in WITH_EXAMPLES[package]}
    public = {name: value for name, value in public.items() if inspect.isfunction(value) or inspect.isclass(value)}
    assert public
    assert [name for name, value in public.items() if '>>> ' not in value.__doc__] == []


@pytest.mark.parametrize('module', MODULES)
def test_the_examples_hold(module):
    MMLogger.get_current_instance()  # one that is made within an example would print into it
    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0
    assert results.failed == 0
