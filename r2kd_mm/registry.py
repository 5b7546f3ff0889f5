"""The registries of scope ``r2kd_mm``: one below each root registry of MMEngine, under the same name.

A plain child registry finds its own names and those of its parent, not those of its siblings, so a config would need
``mmpretrain.`` or ``mmrazor.`` in front of most types. Here a name without a prefix is looked up in r2kd_mm, then in
mmpretrain, then in MMEngine, then in mmrazor; ``default_scope = 'r2kd_mm'`` therefore needs no prefix at all, and
``type='r2kd_mm.X'`` works from a config of any scope. mmpretrain and mmrazor are imported when a name is looked up that
nothing before them has.
"""

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from inspect import Parameter

from mmengine.registry import Registry, root

from r2kd_mm.check_env import explain_import_errors
from r2kd_mm.import_hook import Load, wrap_import
from r2kd_mm.lazy import import_all

LOCATIONS = [
    'r2kd_mm.losses',
    'r2kd_mm.pruning',
    'r2kd_mm.augmentations',
    'r2kd_mm.distillers',
    'r2kd_mm.backbones',
    'r2kd_mm.zoo',
    'r2kd_mm.networks',
    'r2kd_mm.datasets',
    'r2kd_mm.corruptions',
    'r2kd_mm.metrics',
    'r2kd_mm.hooks',
    'r2kd_mm.engine',
]
VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)  # the kinds of *args and **kwargs


class SiblingRegistry(Registry):
    """A child registry that also finds the unprefixed names of mmpretrain and mmrazor.

    Args:
        parent: The root registry to stand below; gives its name too.
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
        """Import all that r2kd_mm registers."""
        if not self._imported:
            for location in self._locations:
                import_all(location)
        super().import_from_location()

    def _searched(self) -> Iterator[Registry]:
        """The registries in their order; a sibling is imported when its turn comes."""
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
    """Give a child to the two registries that mmpretrain keeps apart from MMEngine's tree.

    Without one, mmpretrain warns about each build from another scope.
    """
    load()
    from mmpretrain import registry

    for name in ('BATCH_AUGMENTS', 'TOKENIZER'):
        globals()[name] = SiblingRegistry(getattr(registry, name))


wrap_import('mmpretrain.registry', _add_children_of_mmpretrain)


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
    """What ``name`` stands for in any registry of this scope."""
    found = []
    for registry in [value for value in globals().values() if isinstance(value, SiblingRegistry)]:
        try:
            cls = registry.get(name)
        except RuntimeError:  # MMEngine could not read the name as a path either
            continue
        if callable(cls) and cls not in found:
            found.append(cls)
    return found


def check_arguments(cls: type | Callable, given: set[str], is_complete: bool = True) -> None:
    """Raise ``TypeError``, with the parameters of ``cls``, where the arguments ``given`` do not fit them.

    Args:
        cls: A class or a function.
        given: Names of arguments.
        is_complete: Whether these are all, so that one that is missing is an error too.
    """
    known = parameters_of(cls)
    if known is None:
        return
    unknown = sorted(given - known.keys())
    own = inspect.signature(cls).parameters
    missing = [
        name
        for name, parameter in own.items()
        if parameter.default is parameter.empty and parameter.kind not in VARIABLE and name not in given
    ]
    if not is_complete or any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
        missing = []
    if not unknown and not missing:
        return
    problems = [f'does not take {", ".join(map(repr, unknown))}'] if unknown else []
    problems += [f'needs {", ".join(map(repr, missing))}'] if missing else []
    close = difflib.get_close_matches(unknown[0], known, n=1) if unknown else []
    guess = f'; did you mean {close[0]!r}?' if close else ''
    raise TypeError(
        f'{cls.__name__} {" and ".join(problems)}; its parameters are '
        f'({", ".join(str(parameter.replace(annotation=Parameter.empty)) for parameter in known.values())}){guess}'
    )


def parameters_of(cls: type | Callable) -> dict[str, Parameter] | None:
    """The parameters of a class or a function by their names; ``None`` where it takes any name.

    Where a constructor does nothing with its ``**kwargs`` but hand them on, those of the base class belong to it.
    """
    known: dict[str, Parameter] = {}
    if not inspect.isclass(cls):
        calls = [cls]
    else:
        calls = [vars(base)['__init__'] for base in cls.__mro__ if '__init__' in vars(base)]
    for call in calls:
        try:
            parameters = list(inspect.signature(call).parameters.values())[int(inspect.isclass(cls)) :]  # no self
        except ValueError:  # written in C
            return None
        for parameter in parameters:
            if parameter.kind not in VARIABLE:
                known.setdefault(parameter.name, parameter)
        rest = next((parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD), None)
        if rest is None:
            return known
        if not _only_hands_on(call, rest):
            return None
    return None


def _only_hands_on(constructor: Callable, kwargs: str) -> bool:
    """Whether all that a constructor does with ``**kwargs`` is to give them to that of its base class."""
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(constructor)))))
    except (OSError, TypeError, SyntaxError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).startswith('super(')]
    handed_on = [keyword.value for call in calls for keyword in call.keywords if keyword.arg is None]
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == kwargs]
    return len(uses) == 1 and uses[0] in handed_on
