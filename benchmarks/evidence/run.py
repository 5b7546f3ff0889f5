"""Answer one question of the evidence benchmark: train what is missing, and write table, plots and every number.

The teacher is trained first, unless it is there. Runs are shared between questions, and a second call goes on where
the first one stopped.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it mends what the Runner meets when it starts

import argparse
from pathlib import Path

from grid import PAIRS, QUESTIONS, SCALES, Setting, teacher

from r2kd_mm.comparison import (
    collect,
    complete,
    last_checkpoint,
    load_result,
    make_rows,
    plan_runs,
    report_failures,
    run_to_exit,
    write_comparison,
)

HERE = Path(__file__).resolve().parent


def parse_args(description: str | None = __doc__) -> argparse.Namespace:
    """Read the command line, of this script or of one that measures the runs of this one."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('question', choices=QUESTIONS, help='which table')
    parser.add_argument('--scale', choices=SCALES, default='short', help='how much is trained (default %(default)s)')
    parser.add_argument('--pair', choices=PAIRS, default='same-family', help='of networks (default %(default)s)')
    parser.add_argument('--seeds', nargs='+', type=int, default=list(range(5)), metavar='SEED', help='default: 0 to 4')
    parser.add_argument('--jobs', type=int, default=1, metavar='N', help='runs at a time, of one thread each')
    parser.add_argument(
        '--runs', type=Path, default=Path('work_dirs/evidence'), metavar='DIR', help='of the runs (default %(default)s)'
    )
    parser.add_argument(
        '--out', type=Path, default=HERE / 'results', metavar='DIR', help='of tables and plots (default %(default)s)'
    )
    return parser.parse_args()


def answer(args: argparse.Namespace) -> int:
    """Train, write the report, and return the exit status."""
    scale, question = SCALES[args.scale], QUESTIONS[args.question]
    folder = args.runs / args.scale
    (teacher_run,) = plan_runs([teacher(scale)], [0], folder)
    failures = complete([teacher_run], 1)
    if not failures:
        setting = Setting(scale, args.pair, last_checkpoint(teacher_run))
        runs = plan_runs(question.methods(setting), args.seeds, folder / args.pair)
        failures = complete(runs, args.jobs)
        rows = make_rows(collect(runs, failures), question.baseline)
        if rows:
            out = args.out / f'{args.question}_{args.pair}_{args.scale}'
            subject = f'Glyph-100, {args.pair} pair, {args.scale} scale'
            table = write_comparison(out, rows, question.baseline, load_result(teacher_run).last, subject)
            print(f'\n{table}\nwritten to {out}: table.md, results.json and plots')
    return report_failures(failures)


def main() -> None:
    """Answer, and keep what is done when the user stops it."""
    args = parse_args()
    run_to_exit(lambda: answer(args))


if __name__ == '__main__':
    main()
