"""Fix how mmengine's Runner saves and loads checkpoints, and where it writes its log."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

TIMESTAMP_FORMAT = '%Y%m%d_%H%M%S'  # of MMEngine's folders


def load_checkpoints_safely() -> None:
    """Let MMEngine load its own checkpoints on torch 2.6 and later, and run no code from any checkpoint.

    Upstream symptoms: ``UnpicklingError: Weights only load failed ... HistoryBuffer`` from ``load_from``, ``--resume``,
    testing and mmrazor's ``teacher_ckpt`` (mmengine #1655), because each checkpoint of the Runner contains its message
    hub. Downloaded checkpoints are unpickled without any restriction. ``Runner.resume`` runs ``meta['config']`` of a
    checkpoint as Python code.
    """
    import mmengine.runner.checkpoint as mmengine_checkpoint

    from r2kd_mm.checkpoint import load_from_local, load_url

    mmengine_checkpoint.CheckpointLoader.register_scheme('', loader=load_from_local, force=True)
    mmengine_checkpoint.load_from_local = load_from_local
    mmengine_checkpoint.load_url = load_url


def say_what_was_loaded() -> None:
    """Let MMEngine report the weights that a model got, and refuse weights that do not fit.

    Upstream symptom: "Load checkpoint from ..." in the log, although the model has none of the names in the file. This
    happens with ``load_from``, ``--resume``, a test and ``init_cfg=dict(type='Pretrained')``. A test then scores the
    initial weights, and a run starts from them. Here a test and a resumed run must get every tensor, and a run that
    starts from weights at least a part of its backbone.
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
    """Let a function that loads ``filename`` name the file when it refuses the weights."""
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
    """Let a method of the Runner load only complete weights."""
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
    """Let ``init_cfg=dict(type='Pretrained')`` report as in :func:`say_what_was_loaded`, also with a prefix."""
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
    """Let MMEngine write only values that :func:`r2kd_mm.checkpoint.load_checkpoint_file` reads.

    Upstream symptom: none until the run is resumed. Schedulers, data sets and hooks put functions, Paths or deques
    into a checkpoint. MMEngine writes it, but ``weights_only`` of torch.load refuses it.
    """
    import mmengine.runner.checkpoint as mmengine_checkpoint
    import mmengine.runner.runner as mmengine_runner

    from r2kd_mm.plain import plain

    upstream = mmengine_checkpoint.save_checkpoint
    if getattr(upstream, '__wrapped__', None) is not None:
        return

    @functools.wraps(upstream)
    def save_checkpoint(checkpoint: dict, *args: Any, **kwargs: Any) -> None:
        upstream({name: plain(part, name) for name, part in checkpoint.items()}, *args, **kwargs)

    mmengine_checkpoint.save_checkpoint = mmengine_runner.save_checkpoint = save_checkpoint


def give_each_start_its_folder() -> None:
    """Give each start of a Runner its own folder for log and config.

    Upstream symptom: none. The name of the folder is the second of the start. A test right after a training, or two
    jobs of an array, then write into the same folder, and the later config overwrites the earlier one.
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
    """Make the folder of this second, or of the next free second; several processes may try at once."""
    while True:
        try:
            (work_dir / name).mkdir()
            return name
        except FileExistsError:
            second = time.mktime(time.strptime(name, TIMESTAMP_FORMAT))
            name = time.strftime(TIMESTAMP_FORMAT, time.localtime(second + 1))
