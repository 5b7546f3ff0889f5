"""Cures for the faults of mmengine 0.10.7, mmcv-lite 2.1.0, mmpretrain 1.2.0 and mmrazor 1.0.0 on PyTorch 2.1 to 2.13.

These are the last releases of mmengine, mmpretrain and mmrazor, so the cures live here. :func:`apply` runs when
``r2kd_mm`` is imported, before anything else of it. Each cure is one function whose docstring names the symptom; it
looks for the fault itself where it can, and where nothing is broken it changes nothing. ``docs/stack.md`` says what was
seen with which versions.
"""

import codecs
import enum
import functools
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import types
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import cv2
import mmcv
import mmengine.config.config as mmengine_config
import mmengine.runner.checkpoint as mmengine_checkpoint
import mmengine.runner.runner as mmengine_runner
import numpy as np
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dist import broadcast_object_list, is_distributed, is_main_process
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.utils import digit_version
from PIL import Image
from torch import nn
from torch.utils._pytree import tree_map

MMPRETRAIN_MODULES = ('models', 'datasets', 'engine', 'evaluation', 'visualization')
MMRAZOR_MODULES = ('models', 'engine', 'structures', 'datasets', 'implementations')
DEFAULT_MASTER_PORT = '29500'  # that of torch.distributed and of mmengine
# what weights_only of the newest torch allows besides tensors, and that of torch 2.1 does not; _codecs.encode is how a
# pickle of protocol 2 holds bytes, and a Counter how MultiStepLR holds its milestones
PLAIN_TYPES = {
    'collections.Counter': Counter,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    '_codecs.encode': codecs.encode,
    'builtins.bytearray': bytearray,
    'builtins.complex': complex,
    'builtins.set': set,
}
# What a checkpoint may hold, and what of a scheduler is no state.
PLAIN_LEAVES = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.device, torch.dtype, HistoryBuffer}
PLAIN_DICTS = {dict, OrderedDict, Counter}
FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
TIMESTAMP_FORMAT = '%Y%m%d_%H%M%S'  # of MMEngine's folders
# In the message hub: what share of each unit of channels was there when pruning began.
FULL_STRUCTURE = 'structure_before_pruning'
ZIP_FOLDER_FLAG = 0x10  # in the attributes of a record, as in those of MS-DOS

_placeholder_libraries: list[torch.library.Library] = []  # an operator exists as long as its library object


def apply() -> None:
    """Apply every cure; a second call does nothing new."""
    declare_missing_torchvision_operators()
    with keep_recursion_limit():
        import_mmpretrain()
        import_mmrazor()
    switch_off_inplace_again()
    record_copies()
    return_self_from_train()
    refuse_untrained_losses()
    resume_pruning()
    keep_wrapped_weights()
    load_checkpoints_safely()
    save_checkpoints_plainly()
    give_each_start_its_folder()
    shift_hue_backwards()
    name_configs_by_package()
    lay_out_configs_once()


# ---------------------------------------------------------------------------------------------------- imports
def declare_missing_torchvision_operators() -> None:
    """Import torchvision although its compiled library does not fit this torch.

    Upstream symptom: ``RuntimeError: operator torchvision::nms does not exist`` from ``import torchvision``, which
    every Runner does. Its Python half, all that mmpretrain needs, only asks whether the operators are declared, so an
    empty declaration is enough; calling such an operator still fails. pytorch/vision #8803 and others.
    """
    declared: list[str] = []
    while True:
        try:
            import_module('torchvision')
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


@contextmanager
def keep_recursion_limit() -> Iterator[None]:
    """Undo mmrazor's change of the recursion limit.

    Upstream symptom: after ``import mmrazor.models`` the limit is 1,048,576, and endless recursion ends in a
    segmentation fault instead of a ``RecursionError``.
    """
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def import_mmpretrain() -> None:
    """Import mmpretrain without the warning that mmcv-lite has no compiled operators.

    Upstream symptom: ``UserWarning: Fail to import MultiScaleDeformableAttention from mmcv.ops``; r2kd_mm needs none.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Fail to import ``?MultiScaleDeformableAttention')
        for name in MMPRETRAIN_MODULES:
            import_module(f'mmpretrain.{name}')


def import_mmrazor() -> None:
    """Import mmrazor, without its quantization where this torch no longer has what that is made of.

    Upstream symptom: ``ImportError: `torch>=1.13` is not installed properly`` from ``import mmrazor.models`` on torch
    2.0 and later, which dropped three helpers of the fusion patterns (pytorch #90698, mmrazor #615 and #632).
    mmrazor has a branch for a torch without quantization; the import is led there. Standing in for the three helpers
    instead would build quantization patterns in the old order, which run and are wrong.
    """
    from torch.ao.quantization import fuser_method_mappings

    with _torch_seen_by_mmrazor(None if hasattr(fuser_method_mappings, 'reverse2') else '1.12.1'):
        for name in MMRAZOR_MODULES:
            import_module(f'mmrazor.{name}')


@contextmanager
def _torch_seen_by_mmrazor(version: str | None) -> Iterator[None]:
    """Make mmrazor's version tests, and nobody else's, see this version of torch; None leaves the true one."""
    import mmrazor

    real = mmrazor.digit_version
    seen = torch.__version__ if version is None else version

    def digit_version_of_mmrazor(text: str, *args: Any) -> tuple[int, ...]:
        return real(seen if text == torch.__version__ else text, *args)

    mmrazor.digit_version = digit_version_of_mmrazor
    try:
        yield
    finally:
        seen = torch.__version__  # modules that bound the function at import get the true version from now on
        mmrazor.digit_version = real


# ------------------------------------------------------------------------------------------ silent faults of mmrazor
def switch_off_inplace_again() -> None:
    """Make mmrazor's ``module_inplace=False`` act on torch 2.5 and later.

    Upstream symptom: none to be seen. A recorder on a module that an in-place ReLU follows holds the values after the
    ReLU, because the switch-off walks ``OrderedDict`` only and ``nn.Module._modules`` became a dict (pytorch #129164).
    """
    if isinstance(nn.Module()._modules, OrderedDict):
        return
    from mmrazor.models.algorithms import BaseAlgorithm

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
    @functools.wraps(upstream_hook)
    def forward_hook(self: Any, module: nn.Module, inputs: tuple, outputs: Any) -> None:
        if self.recording:
            upstream_hook(self, module, *tree_map(_copy_of_tensor, (inputs, outputs)))

    return forward_hook


def _copy_of_tensor(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def return_self_from_train() -> None:
    """Let ``SingleTeacherDistill.train()`` and so ``.eval()`` return the model, as ``nn.Module`` does.

    Upstream symptom: ``model = model.eval()`` leaves None.
    """
    from mmrazor.models.algorithms import SingleTeacherDistill

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


def _put_in_model(self: nn.Module, weights: dict[str, Any], prefix: str, *_args: Any) -> None:
    """Rename weights in place as the wrapper ``self`` has them, those that were saved with ``model.`` as well."""
    of_network = self.model.state_dict().keys()
    for name in [name for name in weights if name.startswith(prefix)]:
        own = name[len(prefix) :]
        is_named = own not in of_network and own.split('.')[0] in self._modules
        weights[f'{prefix}{own}' if is_named else f'{prefix}model.{own}'] = weights.pop(name)


def _with_initialised_network(upstream_init: Callable) -> Callable:
    @functools.wraps(upstream_init)
    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
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
    mmengine_checkpoint.CheckpointLoader.register_scheme('', loader=load_from_local, force=True)
    mmengine_checkpoint.load_from_local = load_from_local
    mmengine_checkpoint.load_url = load_url


def load_checkpoint_file(path: str | os.PathLike, map_location: Any = 'cpu') -> dict:
    """Load a checkpoint that may hold tensors, plain values and what MMEngine's Runner adds, and nothing that acts.

    torch.save keeps a CRC-32 of each record of the file, which torch.load does not look at; it is verified here, before
    anything is unpickled. It finds every accident with a probability of 1 - 2**-32 a record, and each one of up to 32
    bits in a row; it is no protection against intent, for which what may be loaded is restricted. Files of the format
    before torch 1.6, and those written with ``torch.serialization.set_crc32_options(False)``, have none.

    Args:
        path: The file; ``~`` is expanded.
        map_location: Where the tensors go, as in :func:`torch.load`.

    Returns:
        The dict in the file, which is a checkpoint of the Runner or a bare state dict.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is a folder, is empty, is cut off, is damaged, is no checkpoint, or wants other objects
            built.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f'checkpoint {str(path)!r} is a folder; name the file in it, such as epoch_10.pth')
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {str(path)!r} does not exist; check the path')
    if path.stat().st_size == 0:
        raise ValueError(f'checkpoint {str(path)!r} is empty; copy or download it again')
    with path.open('rb') as file:
        is_archive = file.read(4) == b'PK\x03\x04'
    if is_archive:
        _verify_archive(path)
    try:
        checkpoint = _load_restricted(path, map_location)
    except pickle.UnpicklingError as error:
        forbidden = _forbidden_name(error)
        if forbidden is None:
            raise _no_checkpoint(path, error) from error
        raise ValueError(
            f'checkpoint {str(path)!r} is refused: it wants {forbidden} called or built while it loads, and a '
            'checkpoint may hold only tensors and plain values. Do not use it unless you know who wrote it; if you do, '
            "load it once with torch.load(path, weights_only=False) and save {'state_dict': ...} alone"
        ) from error
    except (
        RuntimeError,
        EOFError,
        KeyError,
        AttributeError,
        IndexError,
        TypeError,
        ValueError,
        ModuleNotFoundError,
        AssertionError,
    ) as error:  # whatever the bytes of another kind of file happen to provoke
        if 'Attempting to deserialize object on' in str(error):  # a sound file for a device that is not here
            raise
        raise _no_checkpoint(path, error) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'checkpoint {str(path)!r} holds one {type(checkpoint).__name__}; expected a dict of weights, or '
            "a dict with the key 'state_dict'"
        )
    if isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)  # see load_checkpoints_safely; MMEngine itself writes 'cfg'
    return checkpoint


def _verify_archive(path: Path) -> None:
    """Refuse a file of torch.save whose end is missing, or one of whose records is not as it was written."""
    try:
        whole = zipfile.is_zipfile(path)  # the table of contents stands at the end of the file
        fault = _fault_in_archive(path) if whole else 'cut off: its end is missing'
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, struct.error) as error:
        fault = f'damaged ({error})'
    if fault:
        raise ValueError(f'checkpoint {str(path)!r} is {fault}; copy or download it again')


def _fault_in_archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        # of what is marked as a folder, torch reads nothing, and returns whatever was in the memory
        folder = next((record.filename for record in records if record.external_attr & ZIP_FOLDER_FLAG), None)
        if folder is not None:
            return f'damaged: it has {folder} marked as a folder'
        has_checksums = any(record.CRC for record in records)
        torn = archive.testzip() if has_checksums else None
    return f'damaged: the checksum of {torn} is wrong' if torn else None


def load_from_local(filename: str, map_location: Any) -> dict:
    """:func:`load_checkpoint_file` as a scheme of MMEngine's loader, whose log shows the name from character 11 on."""
    return load_checkpoint_file(filename, map_location)


def load_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True) -> dict:
    """Download a checkpoint once into the cache of torch.hub, then :func:`load_checkpoint_file` it.

    Args:
        url: Where the file is; its last part is its name in the cache.
        model_dir: The cache folder; None means ``checkpoints`` in :func:`torch.hub.get_dir`.
        map_location: Where the tensors go, as in :func:`torch.load`.
        progress: Show a progress bar on stderr.
    """
    folder = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints')
    folder.mkdir(parents=True, exist_ok=True)
    cached = folder / Path(urlparse(url).path).name
    if not cached.exists():
        try:
            torch.hub.download_url_to_file(url, str(cached), progress=progress)
        except OSError as error:
            raise ValueError(
                f'checkpoint {url!r} cannot be downloaded ({error}); check the address and the connection, '
                'or download it elsewhere and give its path'
            ) from error
    return load_checkpoint_file(cached, map_location)


def _load_restricted(path: Path, map_location: Any) -> Any:
    if _safe_globals_take_names():
        allowed: list[Any] = [(obj, name) for name, obj in _allowed_globals().items()]
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location=map_location, weights_only=True)
    # older ones have weights_only but no way to allow HistoryBuffer; the same rule as an unpickler of our own
    restricted = types.SimpleNamespace(
        __name__='pickle',
        Unpickler=RestrictedUnpickler,
        load=lambda file, **options: RestrictedUnpickler(file, **options).load(),
    )
    return torch.load(path, map_location=map_location, pickle_module=restricted, weights_only=False)


def _safe_globals_take_names() -> bool:
    return digit_version(torch.__version__) >= digit_version('2.6.0')


class RestrictedUnpickler(pickle.Unpickler):
    """Finds the names that torch's own ``weights_only`` allows and those of ``_allowed_globals``, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        from torch._weights_only_unpickler import _get_allowed_globals

        allowed = {**_get_allowed_globals(), **_allowed_globals(), **PLAIN_TYPES}
        module = module.replace('__builtin__', 'builtins')  # its name in the pickle protocol that torch.save uses
        try:
            return allowed[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {module}.{name}') from None


@functools.cache
def _allowed_globals() -> dict[str, Any]:
    """What the message hub in a checkpoint of the Runner is made of, by the name that the pickle uses.

    numpy 2 renamed ``numpy.core`` to ``numpy._core``; files of either are read by either.
    """
    reconstruct, scalar = np.ndarray(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    allowed = {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'builtins.getattr': _getattr_of_history_buffer,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    for core in ('numpy.core', 'numpy._core'):
        allowed[f'{core}.multiarray._reconstruct'] = reconstruct
        allowed[f'{core}.multiarray.scalar'] = scalar
    for code in '?' + np.typecodes['AllInteger'] + 'efdFD':
        dtype = type(np.dtype(code))
        allowed[f'{dtype.__module__}.{dtype.__qualname__}'] = dtype
    return allowed


def _getattr_of_history_buffer(obj: Any, name: str) -> Callable:
    """Stand in for ``getattr``, by which a pickled HistoryBuffer refers to its four statistics and to nothing else."""
    if obj is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(obj, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {name}')


def _forbidden_name(error: pickle.UnpicklingError) -> str | None:
    """The name that the unpickler refused, or None where it failed for another reason."""
    found = re.search(r'(?:GLOBAL|reduce for unrecognized function) ([^\s;]+)', str(error))
    return found.group(1) if found else None


def _no_checkpoint(path: Path, error: Exception) -> ValueError:
    reason = str(error).split('WeightsUnpickler error:')[-1].strip()  # torch puts advice to its own users in front
    reason = reason.splitlines()[0] if reason else type(error).__name__
    return ValueError(
        f'{str(path)!r} is no checkpoint, or a damaged one ({reason}); expected a file that torch.save '
        'wrote: check the path, or copy or download it again'
    )


def save_checkpoints_plainly() -> None:
    """Make MMEngine write into a checkpoint only what :func:`load_checkpoint_file` reads.

    Upstream symptom: none to be seen until the run is resumed. Schedulers, data sets and hooks put functions, Paths,
    ConfigDicts or deques into a checkpoint. It is written all the same, and ``weights_only`` of torch.load refuses it.
    """
    upstream = mmengine_checkpoint.save_checkpoint
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def save_checkpoint(checkpoint: dict, *args: Any, **kwargs: Any) -> None:
        upstream({name: plain(part, name) for name, part in checkpoint.items()}, *args, **kwargs)

    mmengine_checkpoint.save_checkpoint = mmengine_runner.save_checkpoint = save_checkpoint


def plain(value: Any, name: str = 'meta') -> Any:
    """``value`` as a checkpoint holds it: tensors, numbers and texts, in lists, tuples, sets and dicts.

    What is plain already is returned as it is. Paths become texts, numpy's scalars numbers, deques lists, and other
    dicts plain ones. Functions are left out of ``param_schedulers``, whose owners have them from their config.

    Args:
        value: Any part of a checkpoint.
        name: Its place, such as ``'meta.dataset_meta'``. In ``meta``, which is only read, any other object becomes the
            text that it prints as.

    Raises:
        TypeError: Another part than ``meta`` holds an object that is not plain.

    >>> plain({'root': Path('data'), 'classes': ('cat', 'dog')})
    {'root': 'data', 'classes': ('cat', 'dog')}
    """
    kind = type(value)
    if kind in PLAIN_LEAVES or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, dict):
        state = [
            (key, item)
            for key, item in value.items()
            if not (name.startswith('param_schedulers') and isinstance(item, FUNCTIONS))
        ]
        items = [(plain(key, name), plain(item, f'{name}.{key}')) for key, item in state]
        is_plain = kind in PLAIN_DICTS and len(state) == len(value)
        same = all(one[0] is other[0] and one[1] is other[1] for one, other in zip(items, state))
        return value if is_plain and same else dict(items)
    if isinstance(value, (list, tuple, set, frozenset, deque, range)):
        parts = [plain(item, f'{name}.{place}') for place, item in enumerate(value)]
        target = next((base for base in (tuple, set) if isinstance(value, base)), list)
        if kind is target and all(part is item for part, item in zip(parts, value)):
            return value
        return set(parts) if kind is frozenset else target(parts)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biufc':
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist(), name)
    if isinstance(value, enum.Enum):
        return plain(value.value, name)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for base in (str, bytes, int, float):
        if isinstance(value, base):
            return base(value)
    if name.partition('.')[0] == 'meta':
        return str(value)
    raise TypeError(
        f'{name} of the checkpoint is a {kind.__module__}.{kind.__qualname__}, which no reader of checkpoints accepts; '
        'let what puts it there save numbers, texts and tensors, in lists and dicts'
    )


# -------------------------------------------------------------------------------------------------------- run folders
def give_each_start_its_folder() -> None:
    """Give each start of a Runner a folder of its own for its log and its config.

    Upstream symptom: none to be seen. The folder is named by the second of the start, so a test right after a training,
    or two jobs of an array, write into one folder, and the later config overwrites the earlier one.
    """
    upstream = mmengine_runner.Runner.setup_env
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def setup_env(self: Any, env_cfg: dict) -> None:
        upstream(self, env_cfg)
        names = [_claim_folder(Path(self.work_dir), self._timestamp) if is_main_process() else '']
        broadcast_object_list(names)
        self._timestamp = names[0]

    mmengine_runner.Runner.setup_env = setup_env


def _claim_folder(work_dir: Path, name: str) -> str:
    """Make the folder of this second, or of the next one that is free; several processes may try at once."""
    while True:
        try:
            (work_dir / name).mkdir()
            return name
        except FileExistsError:
            second = time.mktime(time.strptime(name, TIMESTAMP_FORMAT))
            name = time.strftime(TIMESTAMP_FORMAT, time.localtime(second + 1))


# ------------------------------------------------------------------------------------------------------- colour jitter
def shift_hue_backwards() -> None:
    """Let mmpretrain's ``ColorJitter(hue=...)`` work with numpy 2.

    Upstream symptom: ``OverflowError: Python integer -25 out of bounds for uint8`` from ``mmcv.adjust_hue`` for every
    negative hue factor, which is half of those drawn.
    """
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
    if (backend or mmcv.image.io.imread_backend) == 'pillow':
        hue, saturation, value = Image.fromarray(np.ascontiguousarray(img[..., ::-1])).convert('HSV').split()
        shifted = Image.fromarray(_add_modulo_256(np.array(hue), shift))
        rgb = Image.merge('HSV', (shifted, saturation, value)).convert('RGB')
        return np.array(rgb, dtype=img.dtype)[..., ::-1]
    hsv = cv2.cvtColor(img.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] = _add_modulo_256(hsv[..., 0], shift)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL).astype(img.dtype)


def _add_modulo_256(channel: np.ndarray, shift: int) -> np.ndarray:
    return ((channel.astype(np.int16) + shift) % 256).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------------ configs
def name_configs_by_package() -> None:
    """Let ``r2kd_mm::kd/kd_res14_res6_digits.py`` name a config of the installed package.

    Symptom: AssertionError "mmengine does not support to load r2kd_mm config". MMEngine keeps a list of the packages
    whose configs it finds.
    """
    MODULE2PACKAGE.setdefault('r2kd_mm', 'r2kd_mm')


def lay_out_configs_once() -> None:
    """Lay out the text of a config once, and not each time it is asked for.

    Upstream symptom: ``Config.pretty_text`` has yapf lay it out anew each time, half a second for a config of ours:
    five times at the start of a run, and with each checkpoint.
    """
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


# ------------------------------------------------------------------------------------------------------- CPU launches
def init_cpu_process_group(launcher: str) -> None:
    """Join the processes of ``launcher`` by gloo, on a machine without CUDA, before a Runner is built.

    Upstream symptom: MMEngine's ``init_dist`` calls ``torch.cuda.set_device`` whatever the backend, which fails with
    ``AttributeError: _cuda_setDevice`` or "no NVIDIA driver". It is not called where a process group exists already.

    Args:
        launcher: ``'pytorch'``, ``'slurm'`` or ``'mpi'``; ``'none'`` does nothing.

    Raises:
        ValueError: The launcher is unknown, or its environment variables are missing.
    """
    if launcher == 'none' or torch.cuda.is_available() or is_distributed():
        return
    environment = _launcher_environment(launcher)
    missing = [name for name, value in environment.items() if not value]
    if missing:
        raise ValueError(
            f'launcher={launcher!r} needs {", ".join(missing)} in the environment; start the program through '
            "tools/dist_train.sh (pytorch), srun (slurm) or 'MASTER_ADDR=... mpirun ...' (mpi; 127.0.0.1 on one "
            "machine), or use launcher='none'"
        )
    os.environ.update(environment)
    torch.distributed.init_process_group('gloo')


def _launcher_environment(launcher: str) -> dict[str, str]:
    """What ``torch.distributed`` reads, as this launcher gives it; an empty value is missing."""

    def get(name: str, default: str = '') -> str:
        return os.environ.get(name, default)

    common = {'MASTER_ADDR': get('MASTER_ADDR'), 'MASTER_PORT': get('MASTER_PORT', DEFAULT_MASTER_PORT)}
    if launcher == 'pytorch':
        names = dict(RANK='RANK', WORLD_SIZE='WORLD_SIZE', LOCAL_RANK='LOCAL_RANK')
    elif launcher == 'slurm':
        names = dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')
        common['MASTER_ADDR'] = common['MASTER_ADDR'] or _first_slurm_node(get('SLURM_NODELIST'))
    elif launcher == 'mpi':
        names = {
            'RANK': 'OMPI_COMM_WORLD_RANK',
            'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE',
            'LOCAL_RANK': 'OMPI_COMM_WORLD_LOCAL_RANK',
        }
    else:
        raise ValueError(f"launcher must be one of 'none', 'pytorch', 'slurm', 'mpi', got {launcher!r}")
    return {**common, **{name: get(source) for name, source in names.items()}}


def _first_slurm_node(nodes: str) -> str:
    """The host on which rank 0 runs, of a list such as ``node[3-5]``; empty where SLURM's ``scontrol`` is missing."""
    try:
        hosts = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return hosts.stdout.split('\n')[0]
