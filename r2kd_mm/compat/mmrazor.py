"""Let mmrazor be imported with a recent torch, and fix mmrazor's recorders, pruning and distillers."""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from r2kd_mm.import_hook import Load

if TYPE_CHECKING:
    from torch import nn

RARE_IMPORTS = ('scipy.stats', 'sklearn.tree', 'matplotlib.pyplot')
# In the message hub: share of each unit of channels at the start of the pruning.
FULL_STRUCTURE = 'structure_before_pruning'


def keep_recursion_limit(load: Load) -> None:
    """Restore Python's recursion limit, which mmrazor raises on import.

    Upstream symptom: after ``import mmrazor.models`` the limit is 1,048,576, and endless recursion ends in a
    segmentation fault instead of a ``RecursionError``.
    """
    limit = sys.getrecursionlimit()
    try:
        load()
    finally:
        sys.setrecursionlimit(limit)


def leave_out_quantization(load: Load) -> None:
    """Import mmrazor without its quantization if this torch does not have the helpers for it.

    Upstream symptom: ``ImportError: `torch>=1.13` is not installed properly`` from ``import mmrazor.models`` on torch
    2.0 and later, which dropped three helpers of the fusion patterns (pytorch #90698, mmrazor #615 and #632).
    mmrazor has a branch for a torch without quantization, and this cure makes its version test take that branch. To
    replace the three helpers instead would build quantization patterns in the old order, which run and are wrong.
    """
    import mmrazor
    import torch
    from torch.ao.quantization import fuser_method_mappings

    if hasattr(fuser_method_mappings, 'reverse2'):
        load()
        return
    real = mmrazor.digit_version
    seen = '1.12.1'

    def digit_version_of_mmrazor(text: str, *args: Any) -> tuple[int, ...]:
        return real(seen if text == torch.__version__ else text, *args)

    mmrazor.digit_version = digit_version_of_mmrazor
    try:
        load()
    finally:
        seen = torch.__version__  # modules that imported the function meanwhile now get the true version
        mmrazor.digit_version = real


def put_off_rare_imports(load: Load) -> None:
    """Let mmrazor import scipy.stats, sklearn.tree and matplotlib.pyplot at their first use.

    Upstream symptom: ``import mmrazor.models`` takes a second and 90 MB more. Only its predictors, the margins of OFD
    and drawings of feature maps need these packages.
    """
    stand_ins = {name: _Rare(name) for name in RARE_IMPORTS if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        load()
    finally:
        for name in stand_ins:
            del sys.modules[name]


class _Rare(ModuleType):
    """Placeholder of a module; its objects are imported at their first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return _RareObject(self.__name__, name)


class _RareObject:
    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def _get(self) -> Any:
        module, name = self._place
        return getattr(import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get(), name)


def switch_off_inplace_again() -> None:
    """Let mmrazor's ``module_inplace=False`` work on torch 2.5 and later.

    Upstream symptom: none. A recorder in front of an in-place ReLU holds the values after the ReLU. The reason:
    mmrazor only walks an ``OrderedDict``, and ``nn.Module._modules`` became a dict (pytorch #129164).
    """
    from mmrazor.models.algorithms import BaseAlgorithm
    from torch import nn

    if isinstance(nn.Module()._modules, OrderedDict):
        return

    BaseAlgorithm.set_module_inplace_false = _set_module_inplace_false


def _set_module_inplace_false(self: nn.Module, architecture: nn.Module, varstr: str) -> None:
    """Set ``inplace`` to False in each module below ``architecture``; ``varstr`` is unused, but mmrazor passes it."""
    for module in architecture.modules():
        if hasattr(module, 'inplace'):
            module.inplace = False  # type: ignore[assignment]  # mypy takes attributes for tensors or modules


def record_copies() -> None:
    """Let mmrazor's recorders of modules keep copies.

    Upstream symptom: none. A recorder keeps the tensor itself, and mmpretrain's residual blocks add their shortcut
    to it in place. The record of the last batch normalisation of a block is then the sum.
    ``module_inplace=False`` does not change that.
    """
    from mmrazor.models.task_modules.recorder import ModuleInputsRecorder, ModuleOutputsRecorder

    for recorder in (ModuleOutputsRecorder, ModuleInputsRecorder):
        upstream_hook = recorder.forward_hook
        if getattr(upstream_hook, '__wrapped__', None) is None:
            recorder.forward_hook = _with_copies(upstream_hook)


def _with_copies(upstream_hook: Callable) -> Callable:
    from torch import Tensor
    from torch.utils._pytree import tree_map

    def copy(value: Any) -> Any:
        return value.clone() if isinstance(value, Tensor) else value

    @functools.wraps(upstream_hook)
    def forward_hook(self: Any, module: nn.Module, inputs: tuple, outputs: Any) -> None:
        if self.recording:
            upstream_hook(self, module, *tree_map(copy, (inputs, outputs)))

    return forward_hook


def return_self_from_train() -> None:
    """Let ``SingleTeacherDistill.train()`` and so ``.eval()`` return the model, as ``nn.Module`` does.

    Upstream symptom: ``model = model.eval()`` leaves None.
    """
    from mmrazor.models.algorithms import SingleTeacherDistill
    from torch import nn

    probe = SingleTeacherDistill.__new__(SingleTeacherDistill)  # without its arguments: train() needs one of them
    nn.Module.__init__(probe)
    probe.teacher_norm_eval = False
    if probe.train() is probe:
        return
    upstream_train = SingleTeacherDistill.train

    @functools.wraps(upstream_train)
    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        upstream_train(self, mode)
        return self

    SingleTeacherDistill.train = train


def begin_dmcp_above_zero() -> None:
    """Let DMCP search the widths of a network.

    Upstream symptom: its parameters begin at 0, which is the bound of a ``clamp(min=0)``. From torch 2.14 on the
    gradient there is 0 instead of 1, so that they stay at 0 for ever and nothing is searched. Here they begin at the
    smallest positive number, whose ``exp(-x)`` is 1 as well.
    """
    import torch
    from mmrazor.models.mutators import DMCPChannelMutator

    upstream = DMCPChannelMutator._build_arch_param
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def build(self: Any, num_choices: int) -> Any:
        parameter = upstream(self, num_choices)
        # asked here: a backward pass while modules are imported would start PyTorch's threads for each GPU
        if _gradient_at_bound_of_clamp() == 0:
            parameter.data.clamp_(min=torch.finfo(parameter.dtype).tiny)
        return parameter

    DMCPChannelMutator._build_arch_param = build


def _gradient_at_bound_of_clamp() -> float:
    import torch

    at_bound = torch.zeros((), requires_grad=True)
    (gradient,) = torch.autograd.grad(at_bound.clamp(min=0), at_bound)
    return gradient.item()


def refuse_untrained_losses() -> None:
    """Refuse a distillation loss that mmrazor's ``ConfigurableDistiller`` would log but not train.

    Upstream symptom: MMEngine adds up the entries whose name contains ``loss``; a term named ``kd`` appears in the log
    and is left out of the total. mmrazor only warns.
    """
    from mmrazor.models.distillers import ConfigurableDistiller

    upstream_build = ConfigurableDistiller.build_distill_losses
    if getattr(upstream_build, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream_build)
    def build_distill_losses(self: nn.Module, losses: dict[str, dict] | None = None) -> nn.ModuleDict:
        untrained = [name for name in losses or {} if 'loss' not in name]
        if untrained:
            raise ValueError(
                f"the name of a distillation loss must contain 'loss', got {', '.join(map(repr, untrained))}: MMEngine "
                f"would show it and not train it; call it 'loss_{untrained[0]}' in distill_losses and in "
                'loss_forward_mappings'
            )
        return upstream_build(self, losses)

    ConfigurableDistiller.build_distill_losses = build_distill_losses


def resume_pruning() -> None:
    """Let a resumed run of mmrazor's ``ItePruneAlgorithm`` prune as the uninterrupted run would.

    Upstream symptom: none. The schedule starts from the structure at the first step. After a resume this is the
    structure of the checkpoint, so other channels are pruned at other times.
    """
    from mmengine.logging import MessageHub
    from mmrazor.models.algorithms import ItePruneAlgorithm

    upstream_init = ItePruneAlgorithm._init_prune_config_manager
    if getattr(upstream_init, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream_init)
    def init_prune_config_manager(self: Any) -> Any:
        manager = upstream_init(self)
        hub = MessageHub.get_current_instance()  # is part of every checkpoint
        if self._iter > 0:
            manager.supernet = hub.runtime_info.get(FULL_STRUCTURE, manager.supernet)
        hub.update_info(FULL_STRUCTURE, manager.supernet)
        return manager

    ItePruneAlgorithm._init_prune_config_manager = init_prune_config_manager
