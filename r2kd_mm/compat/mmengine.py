"""Fix the configs, optimizers and averaged models of mmengine."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from r2kd_mm.paramwise import check_paramwise_cfg

if TYPE_CHECKING:
    from torch import nn


def know_builtin_modules_by_name() -> None:
    """Let a config import from a package in a folder next to Python.

    Symptom: SyntaxError "Failed to format the config file" with ``dict(type=<class ...>)``. MMEngine takes each module
    whose path begins with Python's path for a builtin one: with Python in ``/usr``, also a module in ``/usr/src``, and
    with an environment ``env``, also one in ``env_of_mine``. An object that a config imports from it has no name then.
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
    weight. A folded copy of an averaged teacher then stays out of date.
    """
    import torch
    from mmengine.model import BaseAveragedModel

    upstream = BaseAveragedModel.update_parameters
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def update_parameters(self: nn.Module, model: nn.Module) -> None:
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
