"""Train a model: a distillation, a teacher, or a student alone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.arguments import AUTO, add_run_arguments

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_run_arguments(parser)
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        '--resume',
        nargs='?',
        const=AUTO,
        metavar='PATH',
        help='resume from this checkpoint, or from the newest whole one in the work dir; where that holds none, start '
        'from scratch with a warning',
    )
    start.add_argument(
        '--overwrite',
        action='store_true',
        help='start from scratch in a work dir that holds the checkpoints of an earlier run, and write over them',
    )
    parser.add_argument(
        '--allow-changes',
        action='store_true',
        help='resume although the config, the data or the number of processes changed in a way that changes the '
        'result; after a change of train_cfg.max_epochs stretch the schedule that ended with the run',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size over auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-persistent-workers', action='store_true', help='start new data workers each epoch')
    return parser.parse_args()


def apply_train_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Change ``cfg`` as the flags that only training has say."""
    from r2kd_mm.engine import set_resume
    from r2kd_mm.engine.resume import stretch_schedule, warn
    from r2kd_mm.hooks import RunRecordHook

    goes_on = args.resume == AUTO or (cfg.get('resume') and not args.overwrite)
    set_resume(cfg, args.resume, args.overwrite)
    if goes_on and not cfg.resume:
        warn(f'no checkpoint in {cfg.work_dir!r}: starting from scratch')
    if args.allow_changes:
        stretch_schedule(cfg)
        for hook in cfg.get('custom_hooks') or []:
            if hook.type is RunRecordHook or str(hook.type).endswith('RunRecordHook'):
                hook.allow_changes = True
    if args.amp:
        cfg.optim_wrapper.type = 'r2kd_mm.AutocastOptimWrapper'
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the batch '
                'size over all processes that its learning rate is for'
            )
        cfg.auto_scale_lr.enable = True


def main() -> None:
    """Build the Runner and train."""
    args = parse_args()
    with clear_errors() as guard:
        from mmengine.runner import Runner

        from r2kd_mm.engine.run_config import load_run_config

        cfg = load_run_config(args)
        apply_train_arguments(cfg, args)
        runner = Runner.from_cfg(cfg)
        guard.watch(runner)
        runner.train()


if __name__ == '__main__':
    main()
