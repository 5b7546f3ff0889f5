"""Show R2KD in a few minutes: distil a tiny student with few labels, on real images that need no download.

A teacher is trained on 300 handwritten digits, and a tenth of the weights of a copy of it is pruned. A student 400
times smaller is trained alone, by knowledge distillation (KD), and by R2KD without and with CutMix, with several seeds.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from r2kd_mm.runs import Run

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
TEACHER = CONFIGS / 'supervised' / 'res14_digits.py'
STUDENT = CONFIGS / 'supervised' / 'res6_digits.py'
DISTILLATIONS = {
    'KD': CONFIGS / 'kd' / 'kd_res14_res6_digits.py',
    'R2KD, no augmentation': CONFIGS / 'r2kd' / 'r2kd-no-aug_res14_res6_digits.py',
    'R2KD, CutMix': CONFIGS / 'r2kd' / 'r2kd_res14_res6_digits.py',
}
SUBJECT = 'ResNet-14 to ResNet-6, 300 handwritten digits'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/demo'),
        metavar='DIR',
        help='folder of all that the demo writes (default: work_dirs/demo)',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], metavar='SEED', help='default: 0 1 2')
    parser.add_argument('--epochs', type=int, metavar='N', help='train N epochs each, to see that it runs and no more')
    parser.add_argument(
        '--jobs',
        type=int,
        default=min(2, os.cpu_count() or 1),
        metavar='N',
        help='runs at a time, of one thread each (default: 2)',
    )
    args = parser.parse_args()
    if args.epochs is not None and args.epochs < 1:
        parser.error(f'--epochs must be at least 1, got {args.epochs}')
    if args.jobs < 1:
        parser.error(f'--jobs must be at least 1, got {args.jobs}')
    return args


def demo(args: argparse.Namespace) -> int:
    """Run the demo and return the exit status."""
    from r2kd_mm.report import make_rows, write_comparison
    from r2kd_mm.runs import (
        LocalEngine,
        Method,
        collect,
        complete,
        last_checkpoint,
        load_result,
        plan_runs,
        report_failures,
    )
    from r2kd_mm.runs.progress import format_seconds

    began, engine = time.monotonic(), LocalEngine(args.jobs)
    options = (
        {}
        if args.epochs is None
        else {'train_cfg.max_epochs': args.epochs, 'train_cfg.val_interval': 1, 'default_hooks.checkpoint.interval': 1}
    )
    print(f'Everything is written to {args.out}. What is finished there is not run again; delete it to start over.\n')

    print('1. The teacher, and the student alone')
    teacher_runs = plan_runs([Method('teacher', str(TEACHER), options)], args.seeds[:1], args.out / 'runs')
    alone_runs = plan_runs([Method('student alone', str(STUDENT), options)], args.seeds, args.out / 'runs')
    failures = complete(teacher_runs + alone_runs, engine)
    if failures:
        return report_failures(failures)
    teacher_accuracy = load_result(teacher_runs[0]).last
    show_pruned_teacher(teacher_runs[0], teacher_accuracy)

    print('\n2. The distillations')
    options = {**options, 'model.teacher_ckpt': last_checkpoint(teacher_runs[0])}
    if args.epochs is not None:  # a teacher of so few epochs may be no better than guessing
        options['model.allow_untrained_teacher'] = True
    methods = [Method(name, str(config), options) for name, config in DISTILLATIONS.items()]
    distillation_runs = plan_runs(methods, args.seeds, args.out / 'runs')
    failures = complete(distillation_runs, engine)
    if failures:
        return report_failures(failures)

    print('\n3. What it brought')
    rows = make_rows(collect(alone_runs + distillation_runs, {}), 'KD')
    table = write_comparison(args.out, rows, 'KD', dict(teacher=teacher_accuracy), SUBJECT)
    plot_correlations(args.out / 'class_correlation.png', teacher_runs, alone_runs + distillation_runs)
    print(f'\n{table}')
    print('Accuracy on the 1497 other images, mean ± standard deviation over seeds.')
    for name, what in (
        ('table.md', 'this table'),
        ('accuracy.png', 'accuracy against epoch'),
        ('differences.png', 'differences to KD, with their intervals'),
        ('class_correlation.png', 'which classes student and teacher take for similar'),
        ('results.json', 'every number'),
        ('runs', 'logs and checkpoints of each run'),
    ):
        print(f'  {args.out / name}: {what}')
    print(f'Done in {format_seconds(time.monotonic() - began)}.')
    return 0


def show_pruned_teacher(run: Run, teacher_accuracy: float) -> None:
    """Print what pruning does to the trained teacher."""
    from r2kd_mm.pruning import MagnitudePruner
    from r2kd_mm.runs import accuracy, trained_student, validation_logits

    teacher, cfg = trained_student(run)
    pruned, report = MagnitudePruner(amount=0.1)(teacher)
    logits, labels = validation_logits({'pruned': pruned.eval()}, cfg)
    print(
        f'teacher: {teacher_accuracy:.2f} %; its pruned copy, {report.pruned:,} of {report.total:,} weights zero '
        f'({100 * report.sparsity:.1f} %): {accuracy(logits["pruned"], labels):.2f} %'
    )


def plot_correlations(path: Path, teacher_runs: list[Run], runs: list[Run]) -> None:
    """Plot how the classes' logits go together in the teacher and in the students, averaged over their seeds."""
    import torch

    from r2kd_mm.functional import class_correlation
    from r2kd_mm.report import plot_class_correlations
    from r2kd_mm.runs import trained_student, validation_logits

    maps: dict[str, list[torch.Tensor]] = {}
    for run in teacher_runs + runs:
        network, cfg = trained_student(run)
        logits, _ = validation_logits({'network': network}, cfg)
        maps.setdefault(run.method.name, []).append(class_correlation(logits['network']))
    classes = [str(digit) for digit in range(10)]
    plot_class_correlations(
        path,
        {name: torch.stack(parts).mean(dim=0).numpy() for name, parts in maps.items()},
        'teacher',
        classes,
        f'{SUBJECT}: which digits have logits that rise and fall together '
        f'(mean of {len(runs) // len(maps.keys() - {"teacher"})} seeds)',
    )


def main() -> None:
    """Run the demo, and keep what is done when the user stops it."""
    args = parse_args()
    from r2kd_mm.runs import run_to_exit

    run_to_exit(lambda: demo(args))


if __name__ == '__main__':
    main()
