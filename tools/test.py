"""Evaluate a checkpoint or an export on the test data of a config; of a distillation, only the student is evaluated."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.arguments import add_run_arguments

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner

PICKLED = ('.pkl', '.pickle')
METRIC_FILES = (*PICKLED, '.json', '.yaml', '.yml')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_run_arguments(parser)
    parser.add_argument(
        'checkpoint',
        help='checkpoint of a run of this config, or the folder of an export, of any format; code in it is run',
    )
    parser.add_argument('--out', help='write the results there: .pkl, or for metrics also .json and .yaml')
    parser.add_argument('--out-item', choices=['metrics', 'pred'], help='what to write (default: pred)')
    parser.add_argument('--show-dir', help='save images with their predictions in this folder')
    parser.add_argument('--interval', type=int, default=1, help='save one image in so many (default %(default)s)')
    args = parser.parse_args()
    if args.out_item and not args.out:
        parser.error('--out-item needs --out, the file to write')
    if args.out and args.out_item != 'metrics' and not args.out.endswith(PICKLED):
        parser.error(f'predictions are written as .pkl, got --out {args.out}')
    if args.out and not args.out.endswith(METRIC_FILES):
        parser.error(f'metrics are written as .pkl, .json or .yaml, got --out {args.out}')
    return args


def apply_test_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Change ``cfg`` as the flags that only testing has say."""
    from r2kd_mm.export.scoring import is_export, put_export_
    from r2kd_mm.weights import forget_initial_weights_

    cfg.load_from = args.checkpoint
    cfg.resume = False
    if is_export(args.checkpoint):
        if args.amp:
            raise ValueError('--amp is for a checkpoint; an export computes in the precision that it was written in')
        put_export_(cfg, args.checkpoint)
    if 'teacher' in cfg.model:  # not asked when testing, so neither loaded nor downloaded
        cfg.model.teacher = cfg.model.teacher_ckpt = None
    forget_initial_weights_(cfg.model)
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show_dir:
        hooks = cfg.setdefault('default_hooks', {})
        if not hooks.get('visualization'):
            hooks['visualization'] = dict(type='mmpretrain.VisualizationHook')
        hooks['visualization'].update(enable=True, out_dir=args.show_dir, interval=args.interval)


def _log_intervals(runner: Runner, metrics: dict[str, float]) -> None:
    """Say how much the number of images leaves open."""
    from r2kd_mm.runs.statistics import accuracy_interval

    count = len(runner.test_dataloader.dataset)
    for name, value in metrics.items():
        if name.startswith('accuracy/top'):
            low, high = accuracy_interval(value, count)
            runner.logger.info(
                f'{name}: {value:.2f} % of {count} images, 95 % interval {low:.2f} to {high:.2f} (Wilson)'
            )


def main() -> None:
    """Build the Runner and test."""
    args = parse_args()
    with clear_errors():
        import mmengine
        from mmengine.evaluator import DumpResults
        from mmengine.runner import Runner
        from mmengine.runner.checkpoint import CheckpointLoader

        from r2kd_mm.engine.classes import check_same_classes, classes_of
        from r2kd_mm.engine.fileio import check_writable
        from r2kd_mm.engine.run_config import load_run_config
        from r2kd_mm.export.scoring import check_test_data, is_export

        class TestRunner(Runner):
            """A Runner that leaves the config of the training in the work dir; its own is next to its log."""

            def dump_config(self) -> None:
                """Write nothing."""

        cfg = load_run_config(args)
        if args.out:
            check_writable(Path(args.out).parent, 'folder', '--out')  # before the whole set is scored
        apply_test_arguments(cfg, args)
        runner = TestRunner.from_cfg(cfg)
        if is_export(args.checkpoint):
            check_test_data(runner)
        elif runner.test_loop is not None:  # without test data the Runner says so
            loaded = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
            check_same_classes(
                classes_of(runner.test_dataloader.dataset),
                (loaded.get('meta') or {}).get('dataset_meta', {}).get('classes'),
                owners=f'the test data and checkpoint {args.checkpoint!r}',
                remedy='test on data with the classes of its training. Image folders take them from the folders in '
                'train, also where these are empty',
            )
        if args.out and args.out_item != 'metrics':
            runner.test_evaluator.metrics.append(DumpResults(args.out))
        metrics = runner.test()
        _log_intervals(runner, metrics)
        if args.out and args.out_item == 'metrics' and runner.rank == 0:
            mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    main()
