"""From a command line to the config of a run, as ``tools/train.py`` and ``tools/test.py`` read it."""

from __future__ import annotations

import argparse
import difflib
import inspect
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.hub import get_config
from mmengine.runner import Runner

from r2kd_mm.engine.cli import init_launcher

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')

# What a Runner takes, and what it reads from its config beside that.
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


class _ConfigOptions(DictAction):
    """``--cfg-options key=value ...``; anything else is a usage error."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Parse the pairs into a dict of dotted keys."""
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes key=value pairs, got {value!r}')
        super().__call__(parser, namespace, values, option_string)


def add_config_options(parser: argparse.ArgumentParser, help: str) -> None:
    """Add ``--cfg-options``, which is a dict of dotted keys; ``help`` says what they change."""
    parser.add_argument('--cfg-options', nargs='+', action=_ConfigOptions, default={}, metavar='KEY=VALUE', help=help)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what training and testing share; mmpretrain's names."""
    parser.add_argument('config', help='config file of the run, or r2kd_mm::<method>/<name>.py of what is installed')
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints (default: that of the config, or work_dirs/<name of the config>)',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--no-pin-memory', action='store_true', help='data loaders do not pin memory')
    add_config_options(
        parser,
        'change fields of the config: model.teacher_ckpt=x.pth train_cfg.max_epochs=2 '
        'val_evaluator.topk="(1,)" train_dataloader.dataset.pipeline.1.scale=64',
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='what started the processes')
    # torchrun sets LOCAL_RANK; launchers before it gave one of these
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_run_config(args: argparse.Namespace) -> Config:
    """Read the config and change it as the command line says; join the processes of a launcher.

    Args:
        args: What :func:`add_run_arguments` declares; ``no_persistent_workers`` too where the tool has it.

    Raises:
        ValueError: An option names a field that no run reads.
        OSError: The config is missing, or the work dir cannot be written.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = get_config(args.config) if '::' in args.config else Config.fromfile(args.config)
    _check_fields(args.cfg_options, cfg)
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    check_writable(Path(cfg.work_dir), 'work_dir', '--work-dir')
    for name in DATALOADERS:
        if cfg.get(name) is not None:
            _set_up_dataloader(
                cfg[name],
                pin_memory=not args.no_pin_memory,
                persistent_workers=not getattr(args, 'no_persistent_workers', False),
            )
    init_launcher(cfg, args.launcher)
    return cfg


def _set_up_dataloader(dataloader: dict, pin_memory: bool, persistent_workers: bool) -> None:
    """Set what depends on the machine rather than on the experiment."""
    dataloader.setdefault('collate_fn', dict(type='default_collate'))
    dataloader['pin_memory'] = pin_memory and torch.cuda.is_available() and dataloader.get('pin_memory', True)
    # torch refuses to keep workers alive where there are none
    dataloader['persistent_workers'] = (
        persistent_workers and dataloader.get('num_workers', 0) > 0 and dataloader.get('persistent_workers', True)
    )


def _check_fields(options: Iterable[str], cfg: Config) -> None:
    """Refuse options that would change nothing: a slip in a name, or a helper variable that the config has used up."""
    for option in options:
        field = option.split('.')[0]
        if field in RUN_FIELDS:
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


def check_writable(folder: Path, name: str, option: str) -> None:
    """Make ``folder``, called ``name``, and raise ``OSError`` where nothing can be written into it.

    Args:
        folder: The folder.
        name: What the user knows it as.
        option: By which another one is given.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            f'{name} {str(folder)!r} cannot be written ({error.strerror}); give another by {option}'
        ) from error
