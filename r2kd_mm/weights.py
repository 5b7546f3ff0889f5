"""Load weights into a model, report the loaded tensors, and raise an error for weights of another network."""

from __future__ import annotations

import functools
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner.checkpoint import get_state_dict
from torch import Tensor, nn

from r2kd_mm.checkpoint import held_weights

# As ``strict`` of MMEngine's loading functions: the model must get all of its tensors; the file may hold others.
EVERY_TENSOR = 'every tensor of the model'
SHOWN = 5  # names in a line of the log


class WrongWeights(ValueError):
    """Error for weights that do not fit a model; its message begins with 'the checkpoint'."""

    def of(self, file: str) -> WrongWeights:
        """Return the same error with the name of the file."""
        return WrongWeights(f'checkpoint {file!r}{str(self).removeprefix("the checkpoint")}')


@dataclass(frozen=True)
class LoadedWeights:
    """Report of a load: the tensors that a model got from a file.

    Args:
        model: Name of the model for messages.
        shapes: Shape of every tensor of the model, by name.
        given: Shape of every tensor in the file, by name.
        loaded: Names of the loaded tensors.
        unused: Names of the tensors in the file that the model does not have.
        backbone: Prefix of the names in the backbone; empty without one.
    """

    model: str
    shapes: Mapping[str, tuple[int, ...]]
    given: Mapping[str, tuple[int, ...]]
    loaded: frozenset[str]
    unused: tuple[str, ...]
    backbone: str

    @property
    def left(self) -> list[str]:
        """Names of the tensors of the model that were not loaded."""
        return [name for name in self.shapes if name not in self.loaded]

    def describe(self) -> str:
        """Describe how many tensors were loaded, and name the others."""
        text = f'Loaded {len(self.loaded)} of {len(self.shapes)} tensors into {self.model}'
        absent = [name for name in self.left if name not in self.given]
        differing = [
            f'{name} {self.given[name]} instead of {self.shapes[name]}' for name in self.left if name in self.given
        ]
        for what, names in (
            ('not in the file', absent),
            ('of another shape in the file', differing),
            ('in the file and not in the model', self.unused),
        ):
            if names:
                text += f'; {what}: {_some(names)}'
        return f'{text}.'

    def require_every_tensor(self) -> None:
        """Refuse weights that leave a tensor of the model as it was.

        Raises:
            WrongWeights: A tensor was not loaded.
        """
        if self.left:
            name = self.left[0]
            raise WrongWeights(
                f'the checkpoint does not fit the model of the config: {len(self.left)} of {len(self.shapes)} weights '
                f'are missing or differ, the first is {name} of shape {self.shapes[name]}, got '
                f'{self.given.get(name, "none")}; give the config that the checkpoint was trained with'
            )

    def require_backbone(self) -> None:
        """Refuse weights that leave the whole backbone of a model as it was; without a backbone, the whole model.

        Raises:
            WrongWeights: No tensor of it was loaded.
        """
        wanted = [name for name in self.shapes if name.startswith(self.backbone)] or list(self.shapes)
        if not wanted or not self.loaded.isdisjoint(wanted):
            return
        name = wanted[0]
        got = f'has shape {self.given[name]}' if name in self.given else f'has names such as {next(iter(self.given))}'
        raise WrongWeights(
            f'the checkpoint does not fit this {self.model}: none of the {len(wanted)} tensors of its '
            f'{"backbone" if self.backbone else "network"} was loaded. Expected {name} of shape {self.shapes[name]}, '
            f'the file {got}; give the weights of this architecture{self._advice(wanted)}'
        )

    def _advice(self, wanted: Iterable[str]) -> str:
        """Return advice how to make the names fit, if there is a way."""
        prefix = common_beginning(self.given, wanted)
        if prefix is not None:
            return (
                f". The names fit with prefix={prefix!r}: init_cfg=dict(type='Pretrained', checkpoint=..., "
                f'prefix={prefix!r}) in the model, and no load_from'
            )
        part = common_beginning(wanted, self.given)
        if part is not None:
            return (
                f'. The names fit the part {part.rstrip(".")!r} of the model: give that part '
                "init_cfg=dict(type='Pretrained', checkpoint=...), and no load_from"
            )
        return ''


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], load: Callable[[], Any]) -> LoadedWeights:
    """Call ``load``, which loads ``weights`` into ``model``, and report the tensors that changed.

    A tensor counts as loaded when it was written, whatever its name in the file, and whatever hooks make of it.
    """
    unused: list[str] = []
    hook = model.register_load_state_dict_post_hook(lambda _model, keys: unused.extend(keys.unexpected_keys))
    before = {name: (id(tensor), tensor._version) for name, tensor in _tensors(model).items()}
    try:
        load()
    finally:
        hook.remove()
    after = _tensors(model)
    return LoadedWeights(
        model=type(model).__name__,
        shapes={name: tuple(tensor.shape) for name, tensor in after.items()},
        given={name: tuple(tensor.shape) for name, tensor in weights.items()},
        loaded=frozenset(name for name, tensor in after.items() if before.get(name) != (id(tensor), tensor._version)),
        unused=tuple(unused),
        backbone=_backbone(model),
    )


def load_checkpoint_to_model(
    upstream: Callable,
    model: nn.Module,
    checkpoint: dict,
    strict: bool | str = False,
    logger: Any = None,
    revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
) -> dict:
    """Replace MMEngine's function of this name, through which a Runner and ``init_cfg`` load.

    Args:
        upstream: MMEngine's function.
        model: Model that receives the weights.
        checkpoint: Content of a checkpoint file.
        strict: :data:`EVERY_TENSOR`; ``True`` to refuse every difference, as PyTorch does; ``False`` to load only the
            tensors that fit, which must include a part of the backbone.
        logger: Logger for MMEngine's ``print_log``.
        revise_keys: Patterns in the names, and their replacements.

    Raises:
        WrongWeights: The weights do not fit as ``strict`` asks for.
    """
    weights = held_weights(checkpoint)
    load = functools.partial(upstream, model, {'state_dict': weights}, strict is True, 'silent', revise_keys)
    loaded = load_weights(model, weights, load)
    if strict == EVERY_TENSOR:
        loaded.require_every_tensor()
    loaded.require_backbone()
    level = logging.WARNING if loaded.left else logging.INFO
    print_log(loaded.describe(), logger='current' if logger is None else logger, level=level)
    return checkpoint


def weights_below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights below ``prefix``, without the prefix.

    Raises:
        WrongWeights: No name begins with ``prefix``.
    """
    prefix = prefix.rstrip('.') + '.'
    found = OrderedDict((name.removeprefix(prefix), w) for name, w in weights.items() if name.startswith(prefix))
    if not found:
        raise WrongWeights(
            f'the checkpoint holds no weights whose names begin with prefix={prefix!r}; its names begin with '
            f'{", ".join(sorted({name.split(".")[0] for name in weights}))}'
        )
    return found


def common_beginning(longer: Iterable[str], shorter: Iterable[str]) -> str | None:
    """Find the prefix that turns most of the ``shorter`` names into ``longer`` ones; ``None`` without one."""
    shorter = set(shorter)
    beginnings: Counter[str] = Counter()
    for name in longer:
        parts = name.split('.')
        for index in range(1, len(parts)):
            if '.'.join(parts[index:]) in shorter:
                beginnings['.'.join(parts[:index]) + '.'] += 1
    if not beginnings:
        return None
    beginning, count = beginnings.most_common(1)[0]
    return beginning if 2 * count > len(shorter) else None


def pretrained_init(module: nn.Module) -> dict[str, Any] | None:
    """Return the ``init_cfg`` from which a module will load its weights; ``None`` if there is none left to load."""
    configs = getattr(module, 'init_cfg', None) or []
    if getattr(module, 'is_init', False):
        return None
    return next((config for config in ([configs] if isinstance(configs, dict) else configs) if _loads(config)), None)


def forget_initial_weights_(model: dict[str, Any]) -> None:
    """Remove from a config, in place, the weights that the run of a student started from.

    A checkpoint that is loaded next replaces these weights, so neither their files nor the network are needed.
    """
    for field in ('pretrained', 'checkpoint_path', 'checkpoint'):  # of timm, HuggingFace and the zoo
        model.pop(field, None)
    if isinstance(model.get('init_cfg'), dict) and _loads(model['init_cfg']):
        model.pop('init_cfg')
    for part in ('architecture', 'backbone'):
        if isinstance(model.get(part), dict):
            forget_initial_weights_(model[part])


def _loads(init_cfg: Mapping[str, Any]) -> bool:
    kind = init_cfg['type']
    return kind is PretrainedInit or str(kind).split('.')[-1] in ('Pretrained', 'PretrainedInit')


def keep_weights_(network: nn.Module) -> None:
    """Keep the weights of a ready network, which a Runner would otherwise initialise again.

    A network whose ``init_cfg`` has yet to load weights is initialised as always.
    """
    if isinstance(network, BaseModule) and not any(map(pretrained_init, network.modules())):
        network.is_init = True
        print_log(
            f'{type(network).__name__} was given as a network, not as a config: it keeps its weights.', logger='current'
        )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model by name, without batch-norm counters, which PyTorch fills in."""
    tensors = get_state_dict(model, keep_vars=True)
    return {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and not name.endswith('num_batches_tracked')
    }


def _backbone(model: nn.Module) -> str:
    """Return the prefix of the backbone's weights, in a distiller the student's; empty without a backbone."""
    prefix = ''
    while not hasattr(model, 'backbone') and isinstance(inner := getattr(model, 'architecture', None), nn.Module):
        prefix, model = f'{prefix}architecture.', inner
    return f'{prefix}backbone.' if hasattr(model, 'backbone') else prefix


def _some(names: Iterable[str]) -> str:
    names = list(names)
    rest = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return f'{", ".join(names[:SHOWN])}{rest}'
