"""Cures for the faults of mmengine 0.10.7, mmcv-lite 2.1.0, mmpretrain 1.2.0 and mmrazor 1.0.0 on PyTorch 2.1 to 2.14.

These are the last releases of mmengine, mmpretrain and mmrazor, so the cures live here. Each cure is one function whose
docstring names the symptom; it looks for the fault itself where it can, and where nothing is broken it changes nothing.
:data:`CURES` says which module each cure is for. A cure is applied when that module is imported, by whomever, or at
once where it has been imported before ``r2kd_mm``; nothing is imported for a cure. ``docs/stack.md`` says what was seen
with which versions.
"""

from __future__ import annotations

import functools
import re
import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from r2kd_mm.import_hook import Load, Wrapper, wrap_import
from r2kd_mm.paramwise import check_paramwise_cfg

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

TIMESTAMP_FORMAT = '%Y%m%d_%H%M%S'  # of MMEngine's folders
RARE_IMPORTS = ('scipy.stats', 'sklearn.tree', 'matplotlib.pyplot')
# In the message hub: what share of each unit of channels was there when pruning began.
FULL_STRUCTURE = 'structure_before_pruning'

_placeholder_libraries: list[torch.library.Library] = []  # an operator exists as long as its library object


def apply() -> None:
    """Apply each cure to what has been imported, and from now on to what will be; a second call does nothing new."""
    for name, cures in CURES.items():
        for cure in cures:
            wrap_import(name, cure)


# ---------------------------------------------------------------------------------------------------- imports
def declare_missing_torchvision_operators(load: Load) -> None:
    """Import torchvision although its compiled library does not fit this torch.

    Upstream symptom: ``RuntimeError: operator torchvision::nms does not exist`` from ``import torchvision``, which
    every Runner does. Its Python half, all that mmpretrain needs, only asks whether the operators are declared, so an
    empty declaration is enough; calling such an operator still fails. pytorch/vision #8803 and others.
    """
    import torch

    declared: list[str] = []
    while True:
        try:
            load()
            break
        except RuntimeError as error:
            missing = re.search(r'operator torchvision::(\w+) does not exist', str(error))
            if missing is None or missing.group(1) in declared:
                raise
            declared.append(missing.group(1))
            library = torch.library.Library('torchvision', 'FRAGMENT')
            library.define(f'{missing.group(1)}(Tensor input) -> Tensor')
            _placeholder_libraries.append(library)
    if declared:
        warnings.warn(
            f'torchvision was built for another torch than {torch.__version__}: its compiled operators '
            f'({", ".join(declared)}) cannot be called. Nothing in r2kd_mm calls them; install the torchvision that '
            'belongs to your torch if you do.',
            stacklevel=2,
        )


def keep_recursion_limit(load: Load) -> None:
    """Undo mmrazor's change of the recursion limit.

    Upstream symptom: after ``import mmrazor.models`` the limit is 1,048,576, and endless recursion ends in a
    segmentation fault instead of a ``RecursionError``.
    """
    limit = sys.getrecursionlimit()
    try:
        load()
    finally:
        sys.setrecursionlimit(limit)


def ignore_missing_operators(load: Load) -> None:
    """Import mmcv's transformers without the warning that mmcv-lite has no compiled operators.

    Upstream symptom: ``UserWarning: Fail to import MultiScaleDeformableAttention from mmcv.ops``; r2kd_mm needs none.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Fail to import ``?MultiScaleDeformableAttention')
        load()


def leave_out_quantization(load: Load) -> None:
    """Import mmrazor, without its quantization where this torch no longer has what that is made of.

    Upstream symptom: ``ImportError: `torch>=1.13` is not installed properly`` from ``import mmrazor.models`` on torch
    2.0 and later, which dropped three helpers of the fusion patterns (pytorch #90698, mmrazor #615 and #632).
    mmrazor has a branch for a torch without quantization; the import is led there, by its own test of torch's version.
    Standing in for the three helpers instead would build quantization patterns in the old order, which run and are
    wrong.
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
        seen = torch.__version__  # modules that bound the function meanwhile get the true version from now on
        mmrazor.digit_version = real


def put_off_rare_imports(load: Load) -> None:
    """Have mmrazor import scipy.stats, sklearn.tree and matplotlib.pyplot when it uses them, not before.

    Upstream symptom: ``import mmrazor.models`` takes a second and 90 MB more, for its predictors, the margins of OFD
    and drawings of feature maps.
    """
    stand_ins = {name: _Rare(name) for name in RARE_IMPORTS if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        load()
    finally:
        for name in stand_ins:
            del sys.modules[name]


class _Rare(ModuleType):
    """Stand for a module; what is taken out of it is imported when it is used."""

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


# ------------------------------------------------------------------------------------------ silent faults of mmrazor
def switch_off_inplace_again() -> None:
    """Make mmrazor's ``module_inplace=False`` act on torch 2.5 and later.

    Upstream symptom: none to be seen. A recorder on a module that an in-place ReLU follows holds the values after the
    ReLU, because the switch-off walks ``OrderedDict`` only and ``nn.Module._modules`` became a dict (pytorch #129164).
    """
    from mmrazor.models.algorithms import BaseAlgorithm
    from torch import nn

    if isinstance(nn.Module()._modules, OrderedDict):
        return

    BaseAlgorithm.set_module_inplace_false = _set_module_inplace_false


def _set_module_inplace_false(self: nn.Module, architecture: nn.Module, varstr: str) -> None:
    """Set ``inplace`` to False in each module below ``architecture``; ``varstr`` is mmrazor's and not needed."""
    for module in architecture.modules():
        if hasattr(module, 'inplace'):
            module.inplace = False  # type: ignore[assignment]  # mypy takes attributes for tensors or modules


def record_copies() -> None:
    """Make mmrazor's recorders of modules keep copies.

    Upstream symptom: none to be seen. A recorder keeps the very tensor that a module gives, and the residual blocks of
    mmpretrain add their shortcut to it in place: the record of the last batch normalisation of a block holds the sum.
    Switching off the in-place activations does not reach that.
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


def refuse_untrained_losses() -> None:
    """Refuse a distillation loss that mmrazor's ``ConfigurableDistiller`` would show and not train.

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
    """Let a resumed run of mmrazor's ``ItePruneAlgorithm`` prune as the run that it goes on from would have.

    Upstream symptom: none to be seen. The schedule goes from the structure at the first step to the target; after a
    resume that is the structure of the checkpoint, and other channels are pruned at other times.
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


# ----------------------------------------------------------------------------------- networks of timm and HuggingFace
def keep_wrapped_weights() -> None:
    """Let a timm or HuggingFace network keep its weights inside another module, and when its run starts.

    Upstream symptoms: none to be seen. mmpretrain's wrappers leave ``model.`` out of the names of their weights, and
    their hooks do so only for the outermost module: a distiller, an algorithm of mmrazor or an average saves
    ``architecture.model.conv1.weight`` and loads no such name. ``init_weights()``, which the Runner calls before it
    trains, draws the weights again, those of ``pretrained=True`` included.
    """
    from mmpretrain.models import HuggingFaceClassifier, TimmClassifier
    from mmpretrain.models.peft import LoRAModel

    for wrapper in (TimmClassifier, HuggingFaceClassifier):
        if wrapper._remove_state_dict_prefix is not _leave_out_model:
            wrapper._remove_state_dict_prefix = staticmethod(_leave_out_model)
            wrapper._add_state_dict_prefix = _put_in_model
            wrapper.__init__ = _with_initialised_network(wrapper.__init__)
    LoRAModel._register_state_dict_hooks = _keep_weights_around_lora(LoRAModel._register_state_dict_hooks)


def _leave_out_model(_wrapper: nn.Module, weights: dict[str, Any], prefix: str, _metadata: dict) -> None:
    """Rename the weights of a wrapper in place; nobody takes what the hook of an inner module returns."""
    for name in [name for name in weights if name.startswith(prefix)]:  # all of them, so that their order stays
        weights[prefix + name[len(prefix) :].removeprefix('model.')] = weights.pop(name)


def _put_in_model(self: Any, weights: dict[str, Any], prefix: str, *_args: Any) -> None:
    """Rename weights in place as the wrapper ``self`` has them, those that were saved with ``model.`` as well."""
    of_network = self.model.state_dict().keys()
    for name in [name for name in weights if name.startswith(prefix)]:
        own = name[len(prefix) :]
        is_named = own not in of_network and own.split('.')[0] in self._modules
        weights[f'{prefix}{own}' if is_named else f'{prefix}model.{own}'] = weights.pop(name)


def _with_initialised_network(upstream_init: Callable) -> Callable:
    @functools.wraps(upstream_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        upstream_init(self, *args, **kwargs)
        self.model.is_init = True  # BaseModule.init_weights passes over such a module

    return init


def _keep_weights_around_lora(upstream_register: Callable) -> Callable:
    """Save what is around a ``LoRAModel``: its hook removes what it does not save from the weights of all modules."""
    if getattr(upstream_register, '__wrapped__', None) is not None:
        return upstream_register

    @functools.wraps(upstream_register)
    def register(self: nn.Module) -> None:
        upstream_register(self)
        key, upstream_hook = self._state_dict_hooks.popitem()

        def hook(module: nn.Module, weights: dict[str, Any], prefix: str, metadata: dict) -> None:
            own = {name: weights[name] for name in weights if name.startswith(prefix)}
            kept = dict(own)
            upstream_hook(module, kept, prefix, metadata)
            for name in own.keys() - kept.keys():
                del weights[name]

        self._state_dict_hooks[key] = hook

    return register


# ------------------------------------------------------------------------------------------------------- checkpoints
def load_checkpoints_safely() -> None:
    """Make MMEngine load its own checkpoints on torch 2.6 and later, and run no code out of any checkpoint.

    Upstream symptoms: ``UnpicklingError: Weights only load failed ... HistoryBuffer`` from ``load_from``, ``--resume``,
    testing and mmrazor's ``teacher_ckpt`` (mmengine #1655), since each checkpoint of the Runner carries its message
    hub; downloaded checkpoints, which are unpickled without any restriction; and ``meta['config']`` of a checkpoint,
    which ``Runner.resume`` runs as Python code.
    """
    import mmengine.runner.checkpoint as mmengine_checkpoint

    from r2kd_mm.checkpoint import load_from_local, load_url

    mmengine_checkpoint.CheckpointLoader.register_scheme('', loader=load_from_local, force=True)
    mmengine_checkpoint.load_from_local = load_from_local
    mmengine_checkpoint.load_url = load_url


def say_what_was_loaded() -> None:
    """Make MMEngine say what a model got of the weights that it was given, and refuse weights that do not fit.

    Upstream symptom: "Load checkpoint from ..." in the log, where ``load_from``, ``--resume``, a test or
    ``init_cfg=dict(type='Pretrained')`` found a file none of whose names the model has: a test scores what the model
    was initialised with, and a run starts from that. A test and a resumed run must get every tensor; a run that starts
    from weights a part of its backbone at least.
    """
    import mmengine.runner as mmengine_runners
    import mmengine.runner.checkpoint as mmengine_checkpoint
    import mmengine.runner.runner as mmengine_runner

    from r2kd_mm.checkpoint import with_state_dict
    from r2kd_mm.weights import load_checkpoint_to_model

    upstream = mmengine_checkpoint._load_checkpoint_to_model
    if getattr(upstream, '__wrapped__', None) is not None:
        return
    load = functools.wraps(upstream)(functools.partial(load_checkpoint_to_model, upstream))
    mmengine_checkpoint._load_checkpoint_to_model = mmengine_runner._load_checkpoint_to_model = load
    load_file = mmengine_runner._load_checkpoint
    mmengine_runner._load_checkpoint = functools.wraps(load_file)(
        lambda *args, **kwargs: with_state_dict(load_file(*args, **kwargs))
    )
    named = _naming_the_file(mmengine_checkpoint.load_checkpoint)
    mmengine_checkpoint.load_checkpoint = mmengine_runners.load_checkpoint = named
    Runner = mmengine_runner.Runner
    Runner.load_checkpoint = _naming_the_file(Runner.load_checkpoint)
    for name in ('resume', 'test', 'val'):
        setattr(Runner, name, _wanting_every_tensor(getattr(Runner, name)))


def _naming_the_file(load: Callable) -> Callable:
    """Let a function that loads ``filename`` into something name the file when it refuses the weights."""
    from r2kd_mm.weights import WrongWeights

    @functools.wraps(load)
    def load_checkpoint(receiver: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(receiver, filename, *args, **kwargs)
        except WrongWeights as error:
            raise error.of(filename) from None
        except ValueError as error:  # no weights in it
            raise error if str(filename) in str(error) else ValueError(f'checkpoint {filename!r}: {error}') from None

    return load_checkpoint


def _wanting_every_tensor(upstream_method: Callable) -> Callable:
    """Let a method of the Runner, and what it calls, load nothing less than the whole model."""
    from r2kd_mm.weights import EVERY_TENSOR

    @functools.wraps(upstream_method)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.load_checkpoint = functools.partial(type(self).load_checkpoint, self, strict=EVERY_TENSOR)
        try:
            return upstream_method(self, *args, **kwargs)
        finally:
            vars(self).pop('load_checkpoint', None)

    return method


def say_what_was_pretrained() -> None:
    """Let ``init_cfg=dict(type='Pretrained')`` do what :func:`say_what_was_loaded` says, also with a prefix."""
    from mmengine.model.weight_init import PretrainedInit

    PretrainedInit.__call__ = _load_pretrained


def _load_pretrained(self: Any, module: nn.Module) -> None:
    """Load the weights of ``init_cfg=dict(type='Pretrained')``."""
    import mmengine.runner.checkpoint as mmengine_checkpoint
    from mmengine.model.weight_init import update_init_info

    from r2kd_mm.checkpoint import held_weights
    from r2kd_mm.weights import weights_below

    def load(module: nn.Module, filename: str) -> None:
        checkpoint = mmengine_checkpoint._load_checkpoint(filename, map_location=self.map_location)
        if self.prefix is not None:
            checkpoint = {'state_dict': weights_below(held_weights(checkpoint), self.prefix)}
        mmengine_checkpoint._load_checkpoint_to_model(module, checkpoint, logger='current')

    _naming_the_file(load)(module, self.checkpoint)
    if hasattr(module, '_params_init_info'):
        update_init_info(module, init_info=self._get_init_info())


def save_checkpoints_plainly() -> None:
    """Make MMEngine write into a checkpoint only what :func:`r2kd_mm.checkpoint.load_checkpoint_file` reads.

    Upstream symptom: none to be seen until the run is resumed. Schedulers, data sets and hooks put functions, Paths,
    ConfigDicts or deques into a checkpoint. It is written all the same, and ``weights_only`` of torch.load refuses it.
    """
    import mmengine.runner.checkpoint as mmengine_checkpoint
    import mmengine.runner.runner as mmengine_runner

    from r2kd_mm.checkpoint import plain

    upstream = mmengine_checkpoint.save_checkpoint
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def save_checkpoint(checkpoint: dict, *args: Any, **kwargs: Any) -> None:
        upstream({name: plain(part, name) for name, part in checkpoint.items()}, *args, **kwargs)

    mmengine_checkpoint.save_checkpoint = mmengine_runner.save_checkpoint = save_checkpoint


# -------------------------------------------------------------------------------------------------------- run folders
def give_each_start_its_folder() -> None:
    """Give each start of a Runner a folder of its own for its log and its config.

    Upstream symptom: none to be seen. The folder is named by the second of the start, so a test right after a training,
    or two jobs of an array, write into one folder, and the later config overwrites the earlier one.
    """
    from mmengine.dist import broadcast_object_list, is_main_process
    from mmengine.runner import Runner

    upstream = Runner.setup_env
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def setup_env(self: Any, env_cfg: dict) -> None:
        upstream(self, env_cfg)
        names = [_claim_folder(Path(self.work_dir), self._timestamp) if is_main_process() else '']
        broadcast_object_list(names)
        self._timestamp = names[0]

    Runner.setup_env = setup_env


def _claim_folder(work_dir: Path, name: str) -> str:
    """Make the folder of this second, or of the next one that is free; several processes may try at once."""
    while True:
        try:
            (work_dir / name).mkdir()
            return name
        except FileExistsError:
            second = time.mktime(time.strptime(name, TIMESTAMP_FORMAT))
            name = time.strftime(TIMESTAMP_FORMAT, time.localtime(second + 1))


# ---------------------------------------------------------------------------------------------------------- optimizers
def refuse_unread_paramwise_options() -> None:
    """Refuse options of ``paramwise_cfg`` that change nothing.

    Upstream symptom: none to be seen. A key of ``custom_keys`` that is part of no parameter's name is passed over, and
    so is an option that nobody reads: a backbone that was to stay as it is, at ``lr_mult=0``, is trained.
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


# ---------------------------------------------------------------------------------------------------------- averages
def count_averages_as_changes() -> None:
    """Let PyTorch count the updates of MMEngine's averaged models as changes of their weights.

    Upstream symptom: none to be seen. ``update_parameters`` writes through ``.data``, which leaves the version of a
    weight as it was. What was made from an averaged teacher, such as a folded copy, stays out of date.
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

    Upstream symptom: none to be seen. Both call ``before_run``, which begins the average again from the raw weights, so
    the accuracy is that of another network than the checkpoint holds.
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
    EMAHook.after_load_checkpoint = _saying_which_weights(EMAHook.after_load_checkpoint)


def name_averaged_weights() -> None:
    """Say which weights of a checkpoint mmpretrain's ``EMAHook`` takes for what, as :func:`keep_averaged_weights`."""
    from mmpretrain.engine import EMAHook

    if getattr(EMAHook.after_load_checkpoint, '__wrapped__', None) is None:
        EMAHook.after_load_checkpoint = _saying_which_weights(EMAHook.after_load_checkpoint)


def _saying_which_weights(upstream_load: Callable) -> Callable:
    """Say what becomes of raw and averaged weights, and let nothing take the places that the hook has exchanged."""
    from r2kd_mm.checkpoint import AVERAGED

    @functools.wraps(upstream_load)
    def after_load_checkpoint(self: Any, runner: Any, checkpoint: dict) -> None:
        weights = dict(checkpoint['state_dict'])
        upstream_load(self, runner, checkpoint)
        if any(checkpoint['state_dict'][name] is not weight for name, weight in weights.items()):
            del checkpoint[AVERAGED]
            runner.logger.info(
                'Of the checkpoint, training goes on from the raw weights, and EMAHook from the averaged ones.'
                if runner._resume
                else 'EMAHook took the averaged weights of the checkpoint; a training starts from them.'
            )

    return after_load_checkpoint


# ------------------------------------------------------------------------------------------------------------ pictures
def keep_colours_of_pictures() -> None:
    """Give the pictures of mmpretrain's ``VisualizationHook`` the colours of their images, and a file each.

    Upstream symptom: red and blue of images from files are exchanged; files of one name in two folders have one
    picture, and so have images in memory, since those of a smaller last batch are counted from the start again.
    """
    from mmpretrain.engine import VisualizationHook

    if 'before_test_epoch' in vars(VisualizationHook):
        return

    def before_val_epoch(self: Any, runner: Any) -> None:
        if self.enable:
            _pictures().look_at(self, runner.val_dataloader)

    def before_test_epoch(self: Any, runner: Any) -> None:
        if self.enable:
            _pictures().look_at(self, runner.test_dataloader)

    def _draw_samples(self: Any, batch_idx: int, data_batch: dict, data_samples: Sequence, step: int = 0) -> None:
        if self.enable:
            _pictures().draw_samples(self, data_batch['inputs'], data_samples, step)

    VisualizationHook.before_val_epoch = before_val_epoch
    VisualizationHook.before_test_epoch = before_test_epoch
    VisualizationHook._draw_samples = _draw_samples


def _pictures() -> ModuleType:
    from r2kd_mm import pictures

    return pictures


# --------------------------------------------------------------------------------------------------------------- data
class MisnamedClasses(ValueError):
    """The classes of a data set are called by the names of others."""


def refuse_misnamed_classes() -> None:
    """Refuse a ``CustomDataset`` whose ``classes`` are its folders in another order than its labels.

    Upstream symptom: an accuracy of 100 %, and every prediction has the name of another class. Labels follow the sorted
    folders, or the annotation file, and names the list in the config.
    """
    from mmpretrain.datasets import CustomDataset

    upstream_load = CustomDataset.load_data_list
    if getattr(upstream_load, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream_load)
    def load_data_list(self: Any) -> list[dict]:
        samples = upstream_load(self)
        if self.with_label and self.CLASSES is not None:
            names = (sample['img_path'].removeprefix(self.img_prefix).lstrip('/') for sample in samples)
            folders = {(sample['gt_label'], name.split('/')[0]) for sample, name in zip(samples, names) if '/' in name}
            _check_names(dict(folders), len(folders), self.CLASSES, type(self).__name__)
        return samples

    CustomDataset.load_data_list = load_data_list


def _check_names(folders: dict[int, str], num_pairs: int, classes: Sequence[str], owner: str) -> None:
    """Refuse ``classes`` that give a folder the name of another one; folders without a label of their own tell nothing.

    Args:
        folders: By label.
        num_pairs: Number of pairs of a label and a folder.
        classes: By label.
        owner: Of the classes.
    """
    if len(folders) < num_pairs or len(set(folders.values())) < num_pairs:
        return
    places = {_comparable(folder): label for label, folder in folders.items()}
    for label, name in enumerate(classes):
        if places.get(_comparable(name), label) != label:
            right = [folders.get(place, classes[place]) for place in range(len(classes))]
            raise MisnamedClasses(
                f'the classes of {owner} are not in the order of its labels: label {label} is the folder '
                f'{folders.get(label)!r}, and classes calls it {name!r}; give classes={right}, or leave classes out'
            )


def _comparable(name: str) -> str:
    return re.sub(r'[\W_]+', ' ', name).strip().casefold()


# ------------------------------------------------------------------------------------------------------- colour jitter
def shift_hue_backwards() -> None:
    """Let mmpretrain's ``ColorJitter(hue=...)`` work with numpy 2.

    Upstream symptom: ``OverflowError: Python integer -25 out of bounds for uint8`` from ``mmcv.adjust_hue`` for every
    negative hue factor, which is half of those drawn.
    """
    import mmcv
    import numpy as np

    try:
        mmcv.adjust_hue(np.zeros((1, 1, 3), np.uint8), -0.5, backend='cv2')
    except OverflowError:
        mmcv.adjust_hue = mmcv.image.adjust_hue = functools.wraps(mmcv.adjust_hue)(
            functools.partial(_adjust_hue, mmcv.adjust_hue)
        )


def _adjust_hue(upstream: Callable, img: np.ndarray, hue_factor: float, backend: str | None = None) -> np.ndarray:
    """``mmcv.adjust_hue``, which checks the arguments and does all that it can do itself."""
    try:
        return upstream(img, hue_factor, backend)
    except OverflowError:
        shift = int(hue_factor * 255)
    import cv2
    import mmcv
    import numpy as np
    from PIL import Image

    def shifted(channel: np.ndarray) -> np.ndarray:
        return ((channel.astype(np.int16) + shift) % 256).astype(np.uint8)

    if (backend or mmcv.image.io.imread_backend) == 'pillow':
        hue, saturation, value = Image.fromarray(np.ascontiguousarray(img[..., ::-1])).convert('HSV').split()
        rgb = Image.merge('HSV', (Image.fromarray(shifted(np.array(hue))), saturation, value)).convert('RGB')
        return np.array(rgb, dtype=img.dtype)[..., ::-1]
    hsv = cv2.cvtColor(img.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] = shifted(hsv[..., 0])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL).astype(img.dtype)


# ------------------------------------------------------------------------------------------------------------ configs
def know_builtin_modules_by_name() -> None:
    """Let a config import from a package that lies where Python does, too.

    Symptom: SyntaxError "Failed to format the config file" with ``dict(type=<class ...>)``. MMEngine takes each module
    for one of Python's own whose path begins with that of Python: with Python in ``/usr``, also one in ``/usr/src``,
    and with an environment ``env``, one in ``env_of_mine``. What a config imports from it is then no name any more.
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
    """Lay out the text of a config once, and not each time it is asked for.

    Upstream symptom: ``Config.pretty_text`` has yapf lay it out anew each time, half a second for a config of ours:
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


# ----------------------------------------------------------------------------------------------------------- the table
def _after(cure: Callable[[], None]) -> Wrapper:
    """Load the module, then apply the cure."""

    def load_and_cure(load: Load) -> None:
        load()
        cure()

    return load_and_cure


CURES: dict[str, tuple[Wrapper, ...]] = {
    'torchvision': (declare_missing_torchvision_operators,),
    'mmcv': (_after(shift_hue_backwards),),
    'mmcv.cnn.bricks.transformer': (ignore_missing_operators,),
    'mmengine.config': (
        _after(know_builtin_modules_by_name),
        _after(name_configs_by_package),
        _after(lay_out_configs_once),
    ),
    'mmengine.model': (_after(count_averages_as_changes),),
    'mmengine.model.weight_init': (_after(say_what_was_pretrained),),
    'mmengine.optim': (_after(refuse_unread_paramwise_options),),
    'mmengine.runner': (
        _after(load_checkpoints_safely),
        _after(say_what_was_loaded),
        _after(save_checkpoints_plainly),
        _after(give_each_start_its_folder),
    ),
    'mmengine.hooks': (_after(keep_averaged_weights),),
    'mmpretrain.engine': (_after(name_averaged_weights), _after(keep_colours_of_pictures)),
    'mmpretrain.datasets': (_after(refuse_misnamed_classes),),
    'mmpretrain.models': (_after(keep_wrapped_weights),),
    'mmrazor.structures.quantization.backend_config': (leave_out_quantization,),
    'mmrazor.models.quantizers.native_quantizer': (leave_out_quantization,),
    'mmrazor.structures.graph.channel_flow': (keep_recursion_limit,),
    'mmrazor.models.task_modules.tracer.fx_tracer': (keep_recursion_limit,),
    'mmrazor.models.task_modules.predictor.metric_predictor': (put_off_rare_imports,),
    'mmrazor.models.task_modules.predictor.handler.carts_handler': (put_off_rare_imports,),
    'mmrazor.models.distillers.ofd_distiller': (put_off_rare_imports,),
    'mmrazor.visualization.local_visualizer': (put_off_rare_imports,),
    'mmrazor.models.task_modules.recorder': (_after(record_copies),),
    'mmrazor.models.algorithms': (
        _after(switch_off_inplace_again),
        _after(return_self_from_train),
        _after(resume_pruning),
    ),
    'mmrazor.models.distillers': (_after(refuse_untrained_losses),),
}


# --------------------------------------------------------------------------------------------------------- moved names
_MOVED = {
    **dict.fromkeys(('load_checkpoint_file', 'load_from_local', 'load_url', 'RestrictedUnpickler'), 'checkpoint'),
    'init_cpu_process_group': 'distributed',
}


def __getattr__(name: str) -> Any:
    """Find what earlier releases had here."""
    if name not in _MOVED:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    home = f'r2kd_mm.{_MOVED[name]}'
    warnings.warn(
        f'r2kd_mm.compat.{name} is now {home}.{name}; the old name goes away in the next release',
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(import_module(home), name)
