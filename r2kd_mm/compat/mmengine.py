"""Fix faults of mmengine in configs, optimizers, averaged models and logging."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from r2kd_mm.config_folder import base_folder
from r2kd_mm.paramwise import check_paramwise_cfg

if TYPE_CHECKING:
    from torch import Tensor, nn

# Numbers that may be left on a device; the next one moves them all.
MOST_WAITING = 10_000


def know_builtin_modules_by_name() -> None:
    """Let a config import from a module whose path begins with the path of the Python installation.

    Symptom: SyntaxError "Failed to format the config file" with ``dict(type=<class ...>)``. MMEngine treats each module
    whose path begins with Python's path as builtin. With Python in ``/usr`` this includes a module in ``/usr/src``, and
    with an environment ``env`` a module in ``env_of_mine``. An object that a config imports from it then has no name.
    """
    from mmengine.config import config, utils

    upstream = utils._is_builtin_module
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def is_builtin_module(module_name: str) -> bool:
        return module_name.split('.')[0] in sys.stdlib_module_names or module_name.startswith('mmengine.config')

    config._is_builtin_module = utils._is_builtin_module = is_builtin_module


def name_configs_by_package() -> None:
    """Let ``r2kd_mm::kd/kd_res14_res6_digits.py`` name a config of the installed package.

    Symptom: AssertionError "mmengine does not support to load r2kd_mm config". MMEngine keeps a list of the packages
    whose configs it finds.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('r2kd_mm', 'r2kd_mm')


def import_configs_by_package() -> None:
    """Let a config outside the clone begin with ``from r2kd_mm.configs._base_.schedules.own_data import *``.

    Symptom: ConfigParsingError "r2kd_mm/configs/... not found", from a wheel and from an editable installation.
    ``with read_base()`` looks in the folder of the package, while mim wants the configs of a package in its ``.mim``.
    """
    from mmengine.config import config

    upstream_path, upstream_parse = config.get_installed_path, config.Config._parse_lazy_import
    if getattr(upstream_path, '__wrapped__', None) is not None:
        return
    parsing: list[str] = []

    @functools.wraps(upstream_path)
    def get_installed_path(package: str) -> str:
        return base_folder(package, upstream_path(package)) if parsing else upstream_path(package)

    @functools.wraps(upstream_parse)
    def parse(filename: str) -> tuple[Any, Any]:
        parsing.append(filename)
        try:
            return upstream_parse(filename)
        finally:
            parsing.pop()

    config.get_installed_path, config.Config._parse_lazy_import = get_installed_path, staticmethod(parse)


def lay_out_configs_once() -> None:
    """Format the text of a config once, not at each use.

    Upstream symptom: ``Config.pretty_text`` lets yapf format the text each time, half a second for a config of ours:
    five times at the start of a run, and with each checkpoint.
    """
    import mmengine.config.config as mmengine_config

    upstream = mmengine_config.FormatCode
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.lru_cache(maxsize=16)
    def lay_out(text: str, style: tuple[tuple[str, Any], ...], **options: Any) -> tuple[str, bool]:
        return upstream(text, style_config=dict(style), **options)

    @functools.wraps(upstream)
    def format_code(text: str, style_config: dict[str, Any], **options: Any) -> tuple[str, bool]:
        return lay_out(text, tuple(style_config.items()), **options)

    mmengine_config.FormatCode = format_code


def refuse_unread_paramwise_options() -> None:
    """Refuse options of ``paramwise_cfg`` that change nothing.

    Upstream symptom: none. A key of ``custom_keys`` that is in no parameter's name is ignored, and so is an unknown
    option. So a backbone that should stay frozen, at ``lr_mult=0``, is trained.
    """
    from mmengine.optim import DefaultOptimWrapperConstructor

    upstream_call = DefaultOptimWrapperConstructor.__call__
    if getattr(upstream_call, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream_call)
    def call(self: Any, model: nn.Module) -> Any:
        check_paramwise_cfg(self.paramwise_cfg, type(self).__name__, model)
        return upstream_call(self, model)

    DefaultOptimWrapperConstructor.__call__ = call


def count_averages_as_changes() -> None:
    """Let PyTorch count the updates of MMEngine's averaged models as changes of their weights.

    Upstream symptom: none. ``update_parameters`` writes through ``.data``, which does not change the version of a
    weight. A folded copy of an averaged teacher then stays out of date. And the number of updates lies on the GPU, so
    that each update waits for it; here it moves to the host.
    """
    import torch
    from mmengine.model import BaseAveragedModel

    upstream = BaseAveragedModel.update_parameters
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def update_parameters(self: nn.Module, model: nn.Module) -> None:
        self.steps = self.steps.cpu()  # type: ignore[operator, assignment]  # a buffer
        upstream(self, model)
        for tensor in (*self.parameters(), *self.buffers()):
            torch.autograd.graph.increment_version(tensor)

    BaseAveragedModel.update_parameters = update_parameters


def keep_averaged_weights() -> None:
    """Let ``Runner.test()`` and ``Runner.val()`` after training measure the weights that ``EMAHook`` averaged.

    Upstream symptom: none. Both call ``before_run``, which restarts the average from the raw weights. The accuracy then
    belongs to another network than the checkpoint.
    """
    from mmengine.hooks import EMAHook

    upstream_before_run = EMAHook.before_run
    if getattr(upstream_before_run, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream_before_run)
    def before_run(self: Any, runner: Any) -> None:
        averaged = getattr(self, 'ema_model', None)
        model = getattr(runner.model, 'module', runner.model)
        if averaged is None or self.src_model is not model or averaged.steps == 0:
            upstream_before_run(self, runner)

    EMAHook.before_run = before_run
    EMAHook.after_load_checkpoint = saying_which_weights(EMAHook.after_load_checkpoint)


def saying_which_weights(upstream_load: Callable) -> Callable:
    """Log what happens to raw and averaged weights; no other hook may use the places that EMAHook exchanged."""
    from r2kd_mm.checkpoint import AVERAGED

    @functools.wraps(upstream_load)
    def after_load_checkpoint(self: Any, runner: Any, checkpoint: dict) -> None:
        weights = dict(checkpoint['state_dict'])
        upstream_load(self, runner, checkpoint)
        if any(checkpoint['state_dict'][name] is not weight for name, weight in weights.items()):
            del checkpoint[AVERAGED]
            runner.logger.info(
                'Training continues from the raw weights of the checkpoint, and EMAHook from the averaged ones.'
                if runner._resume
                else 'EMAHook took the averaged weights of the checkpoint; a training starts from them.'
            )

    return after_load_checkpoint


def log_without_waiting() -> None:
    """Let MMEngine's message hub leave logged numbers on their device until somebody reads them.

    Upstream symptom: none but time. Each logged number of a step waits for the GPU, also in the steps that log nothing.
    Here ``MessageHub`` moves the numbers of all steps in one transfer: when it is read, saved or copied.
    """
    from mmengine.logging import MessageHub

    upstream_update, upstream_get = MessageHub.update_scalar, MessageHub.get_scalar
    if getattr(upstream_update, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream_update)
    def update_scalar(self: Any, key: str, value: Any, count: int = 1, resumed: bool = True) -> None:
        waiting = vars(self).setdefault('_waiting', {})
        if key in waiting or _is_on_device(value):
            self._set_resumed_keys(key, resumed)
            waiting.setdefault(key, []).append((value.detach() if _is_on_device(value) else value, count))
            if sum(map(len, waiting.values())) > MOST_WAITING:
                _move_waiting(self)
        else:
            with _unread(self):
                upstream_update(self, key, value, count, resumed)

    @functools.wraps(upstream_get)
    def get_scalar(self: Any, key: str) -> Any:
        if key in vars(self).get('_waiting', {}):
            _move_waiting(self)
        with _unread(self):
            return upstream_get(self, key)

    def read(self: Any) -> Any:
        if vars(self).get('_waiting') and not vars(self).get('_is_unread'):
            _move_waiting(self)
        return vars(self)['_log_scalars']

    MessageHub.update_scalar, MessageHub.get_scalar = update_scalar, get_scalar
    MessageHub._log_scalars = property(read, lambda self, scalars: vars(self).update(_log_scalars=scalars))


def _is_on_device(value: Any) -> bool:
    """Return whether ``value`` is one floating-point number on a device."""
    from r2kd_mm.devices import HOST_LIKE

    device = getattr(value, 'device', None)
    return getattr(device, 'type', 'cpu') not in HOST_LIKE and value.is_floating_point() and value.numel() == 1


@contextlib.contextmanager
def _unread(hub: Any) -> Iterator[None]:
    """Let a method of ``hub`` see its scalars without those that are on a device."""
    vars(hub)['_is_unread'] = True
    try:
        yield
    finally:
        vars(hub)['_is_unread'] = False


def _move_waiting(hub: Any) -> None:
    """Add the numbers that are on a device to the history of ``hub``, in their order."""
    import torch

    waiting = vars(hub).pop('_waiting')
    entries = [(key, value, count) for key, values in waiting.items() for value, count in values]
    by_device: dict[Any, list[Tensor]] = {}
    for _, value, _ in entries:
        if _is_on_device(value):
            by_device.setdefault(value.device, []).append(value.reshape(()).double())
    numbers = {}
    for device, values in by_device.items():
        numbers[device] = iter(torch.stack(values).tolist())
    for key, value, count in entries:
        hub.update_scalar(
            key, next(numbers[value.device]) if _is_on_device(value) else value, count, hub._resumed_keys[key]
        )


def clip_without_waiting() -> None:
    """Let MMEngine's ``clip_grad`` log the norm of the gradient without waiting for it.

    Upstream symptom: none but time. Each step waits for the GPU to turn the norm into a Python number.
    """
    from mmengine.optim import OptimWrapper

    if OptimWrapper._clip_grad is not _clip_grad:
        OptimWrapper._clip_grad = _clip_grad


def _clip_grad(self: Any) -> None:
    """Clip the gradients of all parameters that have one; log their norm."""
    parameters = [parameter for group in self.optimizer.param_groups for parameter in group['params']]
    parameters = [parameter for parameter in parameters if parameter.requires_grad and parameter.grad is not None]
    if parameters:
        norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        if norm is not None:  # clipping by value gives none
            self.message_hub.update_scalar(f'train/{self.grad_name}', norm)
