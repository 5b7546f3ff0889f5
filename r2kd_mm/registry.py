"""Define the registries of scope ``r2kd_mm``: one child of each root registry of MMEngine, under the same name.

A plain child registry finds its own names and its parent's, but not its siblings'. A config would then need the prefix
``mmpretrain.`` or ``mmrazor.`` for most types. These registries look up a name without prefix in r2kd_mm, mmpretrain,
MMEngine and mmrazor, in this order. So a config with ``default_scope = 'r2kd_mm'`` needs no prefix, and
``type='r2kd_mm.X'`` works in a config of any scope. A package is imported only when no earlier one has the name.
"""

import difflib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

from mmengine.registry import Registry, root

from r2kd_mm.import_errors import explain_import_errors
from r2kd_mm.import_hook import Load, wrap_import
from r2kd_mm.lazy import import_all
from r2kd_mm.signatures import check_arguments

LOCATIONS = [
    'r2kd_mm.losses',
    'r2kd_mm.pruning',
    'r2kd_mm.augmentations',
    'r2kd_mm.teachers',
    'r2kd_mm.distillers',
    'r2kd_mm.backbones',
    'r2kd_mm.zoo',
    'r2kd_mm.quantized',
    'r2kd_mm.networks',
    'r2kd_mm.datasets',
    'r2kd_mm.corruptions',
    'r2kd_mm.metrics',
    'r2kd_mm.hooks',
    'r2kd_mm.engine',
]


class SiblingRegistry(Registry):
    """Child registry that also finds the unprefixed names of mmpretrain and mmrazor.

    Args:
        parent: Root registry of MMEngine; the child registry takes its name.

    Example:
        >>> MODELS.get('R2KD').__module__, MODELS.get('ImageClassifier').__module__
        ('r2kd_mm.distillers.r2kd', 'mmpretrain.models.classifiers.image')
    """

    def __init__(self, parent: Registry) -> None:
        super().__init__(parent.name, parent=parent, scope='r2kd_mm', locations=LOCATIONS)

    def get(self, key: str) -> type | Callable | None:
        """Look up ``key``: own names first, then mmpretrain's, MMEngine's and mmrazor's; a prefix picks one scope."""
        if isinstance(key, str) and '.' not in key:
            for registry in self._searched():
                explain_import_errors(registry.import_from_location)
                if key in registry.module_dict:
                    return registry.module_dict[key]
        return super().get(key)

    def import_from_location(self) -> None:
        """Import all modules of r2kd_mm that register something."""
        if not self._imported:
            for location in self._locations:
                import_all(location)
        super().import_from_location()

    def _searched(self) -> Iterator[Registry]:
        """Yield the registries in their order; import a sibling only when its turn comes."""
        yield self
        yield from self._sibling('mmpretrain')
        yield self.parent
        yield from self._sibling('mmrazor')

    def _sibling(self, scope: str) -> list[Registry]:
        explain_import_errors(partial(import_module, f'{scope}.registry'))
        return [self.parent.children[scope]] if scope in self.parent.children else []


RUNNERS = SiblingRegistry(root.RUNNERS)
RUNNER_CONSTRUCTORS = SiblingRegistry(root.RUNNER_CONSTRUCTORS)
LOOPS = SiblingRegistry(root.LOOPS)
HOOKS = SiblingRegistry(root.HOOKS)
STRATEGIES = SiblingRegistry(root.STRATEGIES)
DATASETS = SiblingRegistry(root.DATASETS)
DATA_SAMPLERS = SiblingRegistry(root.DATA_SAMPLERS)
TRANSFORMS = SiblingRegistry(root.TRANSFORMS)
MODELS = SiblingRegistry(root.MODELS)
MODEL_WRAPPERS = SiblingRegistry(root.MODEL_WRAPPERS)
WEIGHT_INITIALIZERS = SiblingRegistry(root.WEIGHT_INITIALIZERS)
OPTIMIZERS = SiblingRegistry(root.OPTIMIZERS)
OPTIM_WRAPPERS = SiblingRegistry(root.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = SiblingRegistry(root.OPTIM_WRAPPER_CONSTRUCTORS)
PARAM_SCHEDULERS = SiblingRegistry(root.PARAM_SCHEDULERS)
METRICS = SiblingRegistry(root.METRICS)
EVALUATOR = SiblingRegistry(root.EVALUATOR)
TASK_UTILS = SiblingRegistry(root.TASK_UTILS)
VISUALIZERS = SiblingRegistry(root.VISUALIZERS)
VISBACKENDS = SiblingRegistry(root.VISBACKENDS)
LOG_PROCESSORS = SiblingRegistry(root.LOG_PROCESSORS)
INFERENCERS = SiblingRegistry(root.INFERENCERS)
FUNCTIONS = SiblingRegistry(root.FUNCTIONS)


def _add_children_of_mmpretrain(load: Load) -> None:
    """Add children to the two registries of mmpretrain that are outside of MMEngine's tree.

    Without a child, mmpretrain warns about each build from another scope.
    """
    load()
    from mmpretrain import registry

    for name in ('BATCH_AUGMENTS', 'TOKENIZER'):
        globals()[name] = SiblingRegistry(getattr(registry, name))


wrap_import('mmpretrain.registry', _add_children_of_mmpretrain)


def build_component(cfg: dict | Callable, kind: str, package: str) -> Callable:
    """Build a loss, a pruner or an augmentation from its config, and explain an error in the config.

    Args:
        cfg: ``dict(type=..., ...)`` with a class or its registered name as type; or the ready object.
        kind: Kind of the object for the messages, such as ``'loss'``.
        package: Package with the known types, such as ``'r2kd_mm.losses'``.

    Returns:
        The callable object; a ready object is returned as it is.

    Raises:
        TypeError: ``cfg`` is neither a dict nor callable, or an argument does not fit the class.
        ValueError: The type is missing or unknown.

    Example:
        >>> build_component(dict(type='KLDivergenceLoss', temperature=2.0), 'loss', 'r2kd_mm.losses').temperature
        2.0
    """
    if not isinstance(cfg, dict):
        if not callable(cfg) or isinstance(cfg, type):
            raise TypeError(f'{kind} must be a config dict(type=...) or a ready object, got {cfg!r}')
        return cfg
    if 'type' not in cfg:
        raise ValueError(f"{kind} config {dict(cfg)} has no 'type'; {_known_types(kind, package)}")
    cls = cfg['type']
    if isinstance(cls, str):
        cls = _find_type(cls, kind, package)
    elif not callable(cls):
        raise TypeError(f'{kind} type must be a class or its registered name, got {cls!r}')
    check_arguments(cls, {name for name in cfg if name not in ('type', '_scope_')})
    return MODELS.build({**cfg, 'type': cls})


def _registered(package: str) -> list[str]:
    MODELS.import_from_location()
    return sorted(name for name, cls in MODELS.module_dict.items() if f'{cls.__module__}.'.startswith(f'{package}.'))


def _known_types(kind: str, package: str) -> str:
    plural = f'{kind}es' if kind.endswith('s') else f'{kind}s'
    return f'known {plural}: {", ".join(_registered(package))}'


def _find_type(name: str, kind: str, package: str) -> type | Callable:
    try:
        cls = MODELS.get(name)
    except RuntimeError:  # MMEngine could not read the name as a path either
        cls = None
    if callable(cls):
        return cls
    close = difflib.get_close_matches(name, _registered(package), n=1)
    guess = f'; did you mean {close[0]!r}?' if close else ''
    raise ValueError(
        f'unknown {kind} {name!r}; {_known_types(kind, package)}{guess} A class of another package needs its '
        "scope or its full path in front: 'mmrazor.KLDivergence', 'my_package.my_module.MyClass'."
    )


def find_types(name: str) -> list[type | Callable]:
    """Find the classes and functions that are called ``name`` in any registry of this scope.

    Example:
        >>> [found.__name__ for found in find_types('R2KD')]
        ['R2KD']
    """
    found = []
    for registry in [value for value in globals().values() if isinstance(value, SiblingRegistry)]:
        try:
            cls = registry.get(name)
        except RuntimeError:  # MMEngine could not read the name as a path either
            continue
        if callable(cls) and cls not in found:
            found.append(cls)
    return found
