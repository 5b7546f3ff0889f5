"""Build the config of a run from a config file and the command line of ``tools/train.py`` or ``tools/test.py``.

Misspelt options and fields are refused.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner, set_random_seed
from torch.utils.data import DataLoader

from r2kd_mm.engine.cli import init_launcher
from r2kd_mm.engine.config_file import ALIKE, read_config
from r2kd_mm.engine.fileio import check_writable
from r2kd_mm.registry import find_types
from r2kd_mm.signatures import check_arguments, parameters_of

DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')

# Arguments of a Runner, and further fields that it reads from its config.
RUN_FIELDS = {
    *inspect.signature(Runner).parameters,
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
} - {'cfg'}

# Dicts without a type, and the functions that MMEngine calls with them.
UNTYPED = {**dict.fromkeys(DATALOADERS, DataLoader), 'randomness': set_random_seed}
# Keys that MMEngine removes from a dict before it calls the type.
BUILDER_FIELDS = {
    'type',
    '_delete_',
    '_scope_',
    'constructor',  # of optim_wrapper, as paramwise_cfg
    'convert_to_iter_based',  # of param_scheduler
    'name',  # of vis_backends
    'num_batch_per_epoch',  # of data loaders
    'paramwise_cfg',
    'priority',  # of hooks
}
DEFAULT_HOOKS = {'checkpoint', 'logger', 'param_scheduler', 'runtime_info', 'sampler_seed', 'timer'}  # MMEngine's own
# Keys that MMEngine reads from a dict that it passes to no function.
KNOWN_KEYS = {
    'env_cfg': {'cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'auto_scale_lr': {'base_batch_size', 'enable'},
}
NUMBERS = (int, float, 'int', 'float')  # annotations


def read_changed_config(path: str, options: Mapping[str, Any]) -> Config:
    """Read a config file and apply ``--cfg-options`` to it.

    Args:
        path: Config file, see :func:`~r2kd_mm.engine.config_file.read_config`.
        options: New values by dotted key.

    Raises:
        ValueError: An option or the config sets an unknown field, or the config has an error.
        OSError: The config file does not exist.
    """
    cfg = read_config(path, RUN_FIELDS)
    _check_fields(options, cfg)
    cfg.merge_from_dict(options)
    _check_untyped(cfg)
    return cfg


def load_run_config(args: argparse.Namespace) -> Config:
    """Read the config, apply the command line, and join the processes of a launcher.

    Args:
        args: Arguments of :func:`~r2kd_mm.engine.arguments.add_run_arguments`, and ``no_persistent_workers`` if the
            tool has it.

    Raises:
        ValueError: An option or the config names a field that no run reads; or there is an error in the config.
        OSError: The config is missing, or the work dir cannot be written.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_changed_config(args.config, args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    check_writable(Path(cfg.work_dir), 'work_dir', '--work-dir')
    for name in DATALOADERS:
        if cfg.get(name) is not None:
            _set_up_dataloader(
                cfg[name],
                pin_memory=not args.no_pin_memory,
                persistent_workers=not getattr(args, 'no_persistent_workers', False),
            )
    if cfg.get('randomness', {}).get('deterministic'):
        # without it PyTorch refuses the products of a GPU then; the value is that of its documentation
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    init_launcher(cfg, args.launcher)
    return cfg


def _set_up_dataloader(dataloader: dict, pin_memory: bool, persistent_workers: bool) -> None:
    """Set the fields that depend on the machine, not on the experiment."""
    dataloader.setdefault('collate_fn', dict(type='default_collate'))
    dataloader['pin_memory'] = pin_memory and torch.cuda.is_available() and dataloader.get('pin_memory', True)
    # torch refuses to keep workers alive where there are none
    dataloader['persistent_workers'] = (
        persistent_workers and dataloader.get('num_workers', 0) > 0 and dataloader.get('persistent_workers', True)
    )


def _check_fields(options: Mapping[str, Any], cfg: Config) -> None:
    """Refuse options that change nothing or that nothing takes: a typo in a name, or a helper variable."""
    for option in options:
        field = option.split('.')[0]
        if field in RUN_FIELDS:
            _check_path(option, options, cfg)
            continue
        if field in cfg:
            raise ValueError(
                f'--cfg-options {option}: {field!r} is only a name inside the config, which no run reads; '
                'give the field that it went into, such as model.architecture, model.teacher or '
                'train_dataloader.dataset'
            )
        close = difflib.get_close_matches(field, RUN_FIELDS, n=1)
        hint = f'did you mean {close[0]!r}?' if close else f'known fields: {", ".join(sorted(RUN_FIELDS))}'
        raise ValueError(f'--cfg-options {option}: no run reads a field {field!r}; {hint}')


def _check_untyped(cfg: Config) -> None:
    """Refuse keys that MMEngine would ignore, and a second default hook with a misspelt name."""
    for place, known in KNOWN_KEYS.items():
        node = cfg
        for name in place.split('.'):
            node = node.get(name) or {}
        for name in node.keys() - known - {'_delete_'}:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean {close[0]!r}?' if close else f'known keys: {", ".join(sorted(known))}'
            raise ValueError(f'{place} of the config: no run reads {name!r}; {hint}')
    for name in (cfg.get('default_hooks') or {}).keys() - DEFAULT_HOOKS:
        close = difflib.get_close_matches(name, DEFAULT_HOOKS, n=1, cutoff=ALIKE)
        if close:
            raise ValueError(
                f'default_hooks of the config: {name!r} would be a hook next to {close[0]!r}, which then keeps its '
                f'default; did you mean {close[0]!r}? A hook of its own belongs into custom_hooks'
            )


def _check_path(option: str, options: Mapping[str, Any], cfg: Config) -> None:
    """Refuse a new name that its place in ``cfg`` does not take, and a text in place of a number."""
    if any(option.startswith(f'{other}.') for other in options):  # its place is not the one that is in cfg
        return
    first, *path = option.split('.')
    place, node = first, cfg.get(first) or {}
    for depth, name in enumerate(path, start=1):
        is_last = depth == len(path)
        if isinstance(node, (list, tuple)) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif not isinstance(node, Mapping):
            return
        elif place == 'default_hooks' and name not in node:
            _check_hook(option, name, options, known=DEFAULT_HOOKS | node.keys())
            return
        elif is_last or name not in node:
            kind = options.get(f'{place}.type', node.get('type', UNTYPED.get(place)))
            _check_argument(option, name, kind, options[option] if is_last else None)
            return
        else:
            node = node[name]
        place = f'{place}.{name}'


def _check_hook(option: str, name: str, options: Mapping[str, Any], known: set[str]) -> None:
    place = f'default_hooks.{name}'
    if f'{place}.type' in options or (name in known and options.get(place, '') is None):
        return
    close = difflib.get_close_matches(name, known, n=1)
    guess = f'did you mean {close[0]!r}?' if close and name not in known else f'a new one needs {place}.type'
    raise ValueError(
        f'--cfg-options {option}: default_hooks has no {name!r}; known hooks: {", ".join(sorted(known))}; {guess}'
    )


def _check_argument(option: str, name: str, kind: type | Callable | str | None, value: Any) -> None:
    """Refuse ``name`` if ``kind`` does not take it, and ``value`` if it is a text in place of a number."""
    types = find_types(kind) if isinstance(kind, str) else [kind] if callable(kind) else []
    if name in BUILDER_FIELDS or not types:
        return
    errors = []
    for cls in types:  # a name may stand for a class in several registries
        try:
            check_arguments(cls, {name}, is_complete=False)
            parameter = (parameters_of(cls) or {}).get(name)
            if isinstance(value, str) and parameter is not None and parameter.annotation in NUMBERS:
                raise TypeError(f'{cls.__name__} takes a number as {name}, got {value!r}')
            return
        except TypeError as error:
            errors.append(error)
    raise ValueError(f'--cfg-options {option}: {errors[0]}')
