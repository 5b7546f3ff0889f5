"""Imports point one way: a part of the package never imports a part that docs/map.md puts above it."""

import ast
import re
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'r2kd_mm'
# each part of the package, and the other parts of it that it may import
ALLOWED = {
    'version': set(),
    'check_env': set(),
    'import_errors': {'check_env'},
    'import_hook': set(),
    'lazy': set(),
    'paramwise': set(),
    'plain': set(),
    'compat': {
        'checkpoint',
        'config_folder',
        'devices',
        'import_hook',
        'moved',
        'paramwise',
        'pictures',
        'plain',
        'weights',
    },
    'registry': {'import_errors', 'import_hook', 'lazy', 'signatures'},
    'signatures': set(),
    'pictures': {'engine'},
    'functional': set(),
    'labels': set(),
    'arguments': set(),
    'distributed': set(),
    'losses': {'arguments', 'functional', 'registry'},
    'pruning': {'arguments', 'lazy', 'registry'},
    'augmentations': {'arguments', 'devices', 'distributed', 'functional', 'registry'},
    'backbones': {'registry'},
    'datasets': {'arguments', 'checkpoint', 'engine', 'labels', 'lazy', 'published', 'registry'},
    'published': set(),
    'quantized': {'classifiers', 'registry'},
    'cost': set(),
    'environment': set(),
    'tensor_files': set(),
    'checkpoint': {'plain', 'tensor_files'},
    'weights': {'checkpoint'},
    'zoo': {'checkpoint', 'registry', 'zoo_networks'},
    'zoo_networks': {'backbones'},
    'networks': {'classifiers', 'engine', 'registry', 'zoo'},
    'moved': set(),
    'devices': set(),
    'classifiers': set(),
    'teachers': {
        'arguments',
        'augmentations',
        'checkpoint',
        'classifiers',
        'devices',
        'engine',
        'functional',
        'lazy',
        'moved',
        'pruning',
        'registry',
        'weights',
    },
    'distillers': {
        'arguments',
        'augmentations',
        'classifiers',
        'distributed',
        'functional',
        'labels',
        'lazy',
        'losses',
        'moved',
        'pruning',
        'registry',
        'teachers',
        'weights',
    },
    'export': {
        'runs',
        'checkpoint',
        'classifiers',
        'compat',
        'cost',
        'datasets',
        'distillers',
        'engine',
        'environment',
        'functional',
        'lazy',
        'networks',
        'quantized',
        'registry',
        'teachers',
        'version',
        'weights',
        'zoo',
    },
    'hooks': {
        'augmentations',
        'checkpoint',
        'classifiers',
        'devices',
        'distillers',
        'engine',
        'environment',
        'labels',
        'losses',
        'plain',
        'published',
        'quantized',
        'registry',
        'teachers',
    },
    'config_folder': set(),
    'engine': {'checkpoint', 'config_folder', 'devices', 'distributed', 'lazy', 'registry', 'signatures'},
    'metrics': {'arguments', 'classifiers', 'functional', 'registry', 'teachers'},
    'corruptions': {'registry'},
    'runs': {'checkpoint', 'engine', 'moved', 'registry', 'teachers', 'weights'},
    'report': {
        'augmentations',
        'checkpoint',
        'classifiers',
        'corruptions',
        'cost',
        'datasets',
        'distillers',
        'engine',
        'environment',
        'functional',
        'metrics',
        'moved',
        'pruning',
        'registry',
        'runs',
        'teachers',
        'version',
        'weights',
    },
    'planning': {'classifiers', 'distillers', 'engine', 'hooks', 'registry', 'teachers'},
    'photos': {
        'classifiers',
        'cost',
        'datasets',
        'distillers',
        'engine',
        'export',
        'hooks',
        'lazy',
        'networks',
        'registry',
        'report',
        'runs',
        'teachers',
    },
    'command': {'engine', 'photos', 'version'},
    '__init__': {'compat', 'import_errors', 'import_hook', 'lazy', 'moved', 'photos', 'version'},
}
REQUIREMENTS = (PACKAGE.parent / 'requirements' / 'runtime.txt').read_text().splitlines()
SOURCES = sorted(PACKAGE.rglob('*.py'))


def part(source: Path) -> str:
    """The folder or module of the package that ``source`` belongs to."""
    return source.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imported_modules(source: Path) -> set[str]:
    """The modules that ``source`` imports, at its top or inside a function."""
    modules = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{source}: relative import; write the full name'
            # `from r2kd_mm import compat` imports r2kd_mm.compat
            modules |= {
                f'{node.module}.{alias.name}' if node.module == 'r2kd_mm' else node.module for alias in node.names
            }
    return modules


@pytest.mark.parametrize('source', SOURCES, ids=lambda source: str(source.relative_to(PACKAGE)))
def test_imports_point_one_way(source):
    assert part(source) in ALLOWED, 'a new part of the package: say in ALLOWED what it may import'
    ours = {module.split('.')[1] for module in imported_modules(source) if module.startswith('r2kd_mm.')}
    assert ours <= ALLOWED[part(source)] | {part(source)}


@pytest.mark.parametrize('source', SOURCES, ids=lambda source: str(source.relative_to(PACKAGE)))
def test_the_library_imports_neither_configs_nor_tools_nor_tests(source):
    assert not {module.split('.')[0] for module in imported_modules(source)} & {'configs', 'tools', 'tests', 'toys'}


@pytest.mark.parametrize(
    ('name', 'third_party'),
    [
        ('functional', {'torch'}),
        ('check_env', {'torch', 'torchvision'}),
        ('version', set()),
        ('import_hook', set()),
        ('signatures', set()),
    ],
)
def test_what_a_part_takes_from_outside(name, third_party):
    sources = [source for source in SOURCES if part(source) == name]
    assert sources
    outside = {module.split('.')[0] for source in sources for module in imported_modules(source)}
    assert outside - {'r2kd_mm'} - sys.stdlib_module_names <= third_party


def test_what_an_import_needs_is_required():
    """A package of an extra is imported where it is needed: `pip install r2kd_mm` lacks it.

    A module of an engine is itself imported where that engine is asked for.
    """
    of_engines = {'ray': 'ray_engine.py', 'submitit': 'slurm_engine.py'}
    required = {re.match(r'[\w-]+', row)[0].lower() for row in REQUIREMENTS if not row.startswith('#')}
    known_as = {'cv2': 'opencv-python', 'mmcv': 'mmcv-lite', 'PIL': 'torchvision'}  # torchvision requires pillow
    needed = set()
    for source in SOURCES:
        for node in ast.parse(source.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            needed |= {(name.split('.')[0], source) for name in names}
    outside = {(name, source) for name, source in needed if name not in {*sys.stdlib_module_names, 'r2kd_mm'}}
    assert {name for name, _ in outside} >= {'torch', 'scipy', 'cv2'}
    lacking = {(name, source) for name, source in outside if known_as.get(name, name).lower() not in required}
    assert not {(name, str(source)) for name, source in lacking if source.name != of_engines.get(name)}


def test_every_folder_is_a_package_that_lists_what_it_exports():
    for folder in {source.parent for source in SOURCES} - {PACKAGE}:
        exported = [
            ast.literal_eval(node.value)
            for node in ast.parse((folder / '__init__.py').read_text()).body
            if isinstance(node, ast.Assign) and node.targets[0].id == '__all__'
        ]
        assert exported, f'{folder.name} has no __all__'
        assert exported[0] == sorted(exported[0]), f'{folder.name}: sort __all__'


def test_no_star_import_in_the_library():
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert all(alias.name != '*' for alias in node.names), source


def test_no_hook_imports_from_another_hook():
    folder = PACKAGE / 'hooks'
    with_hooks = {
        f'r2kd_mm.hooks.{source.stem}' for source in folder.glob('*.py') if 'HOOKS.register' in source.read_text()
    }
    assert len(with_hooks) > 5
    for source in folder.glob('[!_]*.py'):
        assert not imported_modules(source) & with_hooks, source
