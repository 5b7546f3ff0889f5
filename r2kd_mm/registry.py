"""The registries of scope ``r2kd_mm``: one below each root registry of MMEngine, under the same name.

A plain child registry finds its own names and those of its parent, not those of its siblings, so a config would need
``mmpretrain.`` or ``mmrazor.`` in front of most types. Here a name without a prefix is looked up in r2kd_mm, then in
mmpretrain, then in mmrazor, then in MMEngine; ``default_scope = 'r2kd_mm'`` therefore needs no prefix at all, and
``type='r2kd_mm.X'`` works from a config of any scope.
"""

import difflib
import inspect
from collections.abc import Callable

from mmengine.registry import Registry, root
from mmpretrain import registry as mmpretrain_registry
from mmrazor import registry as mmrazor_registry

SIBLING_SCOPES = (mmpretrain_registry.MODELS.scope, mmrazor_registry.MODELS.scope)
LOCATIONS = [
    'r2kd_mm.losses',
    'r2kd_mm.pruning',
    'r2kd_mm.augmentations',
    'r2kd_mm.distillers',
    'r2kd_mm.backbones',
    'r2kd_mm.zoo',
    'r2kd_mm.datasets',
    'r2kd_mm.corruptions',
    'r2kd_mm.metrics',
    'r2kd_mm.hooks',
    'r2kd_mm.engine',
]


class SiblingRegistry(Registry):
    """A child registry that also finds the unprefixed names of mmpretrain and mmrazor.

    Args:
        parent: The root registry to stand below; gives its name too.
    """

    def __init__(self, parent: Registry) -> None:
        super().__init__(parent.name, parent=parent, scope='r2kd_mm', locations=LOCATIONS)

    def get(self, key: str) -> type | Callable | None:
        """Look up ``key``: own names first, then mmpretrain's, mmrazor's and MMEngine's; a prefix picks one scope."""
        if isinstance(key, str) and '.' not in key:
            siblings = [self.parent.children[scope] for scope in SIBLING_SCOPES if scope in self.parent.children]
            for registry in (self, *siblings):
                registry.import_from_location()
                if key in registry.module_dict:
                    return registry.module_dict[key]
        return super().get(key)


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
# mmpretrain keeps these two apart from MMEngine's tree; without a child it warns about each build from another scope
BATCH_AUGMENTS = SiblingRegistry(mmpretrain_registry.BATCH_AUGMENTS)
TOKENIZER = SiblingRegistry(mmpretrain_registry.TOKENIZER)


def build_component(cfg: dict | Callable, kind: str, package: str) -> Callable:
    """Build a loss, a pruner or an augmentation from its config, and explain what is wrong with the config.

    Args:
        cfg: ``dict(type=..., ...)``, where the type is a class or its registered name; or the ready object.
        kind: What is built, for the messages: ``'loss'``.
        package: Where its known types live: ``'r2kd_mm.losses'``.

    Returns:
        The object, which is callable; ``cfg`` itself where that is one.

    Raises:
        TypeError: ``cfg`` is neither a dict nor callable, or an argument does not fit the class.
        ValueError: The type is missing or unknown.
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
    _check_arguments(cls, {name for name in cfg if name not in ('type', '_scope_')})
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


def _check_arguments(cls: type | Callable, given: set[str]) -> None:
    parameters = inspect.signature(cls).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    unknown = sorted(given - parameters.keys())
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL and name not in given
    ]
    if not unknown and not missing:
        return
    problems = [f'does not take {", ".join(map(repr, unknown))}'] if unknown else []
    problems += [f'needs {", ".join(map(repr, missing))}'] if missing else []
    raise TypeError(
        f'{cls.__name__} {" and ".join(problems)}; its parameters are '
        f'({", ".join(str(parameter) for parameter in parameters.values())})'
    )
