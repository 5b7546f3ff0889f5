"""Add to an argument parser the options that several command-line tools share.

The tools parse their command line before their slow imports, so that ``--help`` prints at once.
"""

from __future__ import annotations

import argparse

from mmengine.config import DictAction

AUTO = 'auto'  # --resume without a path
ENGINES = ('local', 'ray', 'slurm')
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


class _ConfigOptions(DictAction):
    """Action of ``--cfg-options key=value ...``; any other form is a usage error."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Parse the pairs into a dict of dotted keys."""
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes key=value pairs, got {value!r}')
        super().__call__(parser, namespace, values, option_string)


def add_config_options(parser: argparse.ArgumentParser, help: str) -> None:
    """Add ``--cfg-options``, which takes ``KEY=VALUE`` pairs with dotted keys; ``help`` is its help text."""
    parser.add_argument('--cfg-options', nargs='+', action=_ConfigOptions, default={}, metavar='KEY=VALUE', help=help)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where many runs are trained."""
    group = parser.add_argument_group('where the runs are trained')
    group.add_argument(
        '--engine',
        choices=ENGINES,
        default=ENGINES[0],
        help='processes of this machine, a Ray cluster (RAY_ADDRESS; without one, Ray starts here), or jobs of SLURM '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--jobs',
        type=_positive,
        metavar='N',
        help='runs at a time (default: one a GPU, one on a machine without; on a cluster, as many as fit)',
    )
    group.add_argument(
        '--jobs-per-gpu',
        type=_not_negative,
        default=1,
        metavar='N',
        help='runs that share a GPU; 0 trains on the CPUs (default: 1)',
    )
    group.add_argument('--cpus', type=_positive, default=1, metavar='N', help='threads of a run (default: 1)')
    group.add_argument(
        '--slurm',
        nargs='+',
        action=_ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='parameters of submitit, such as slurm_partition=gpu gpus_per_node=1 timeout_min=600; cluster=local tries '
        'it without SLURM',
    )
    group.add_argument('--dry-run', action='store_true', help='say what would be trained, where and how long, and stop')


def _positive(text: str) -> int:
    return _at_least(1, text)


def _not_negative(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f'must be at least {least}, got {number}')
    return number


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share, with mmpretrain's names."""
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
