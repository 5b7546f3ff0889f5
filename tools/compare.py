"""Train several configs with several seeds, and compare their accuracies in a table, a JSON file and plots."""

import argparse
from pathlib import Path

from r2kd_mm.engine.arguments import add_config_options, add_engine_options


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='A second call skips finished runs and resumes interrupted ones. A run whose config or teacher has '
        'changed, in any field, is trained again and replaces the run in its folder. The old run is kept as '
        'seed_<n>.set_aside until the new one is finished. It comes back when it is asked for before that, and is '
        'deleted afterwards; give another --out to keep both. '
        'The exit status is 1 if a run failed.',
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files; a method has the name of its file')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], metavar='SEED', help='default: 0 1 2')
    parser.add_argument('--baseline', metavar='NAME', help='show the difference of every other method to this one')
    add_engine_options(parser)
    add_config_options(parser, 'change fields of every config')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/compare'),
        metavar='DIR',
        help='folder of the runs, table and plots (default: work_dirs/compare)',
    )
    return parser.parse_args()


def compare(args: argparse.Namespace) -> int:
    """Train what is missing, write the report, and return the exit status."""
    from r2kd_mm.report import make_rows, write_comparison
    from r2kd_mm.runs import Method, collect, complete, make_engine, plan_runs, preview, report_failures

    methods = [Method(Path(config).stem, config, args.cfg_options) for config in args.configs]
    runs = plan_runs(methods, args.seeds, args.out / 'runs')
    make_rows({method: {} for method in methods}, args.baseline)  # refuse an unknown baseline before hours of training
    engine = make_engine(args, args.out / 'runs')
    if args.dry_run:
        print(preview(runs, engine))
        return 0
    failures = complete(runs, engine)

    rows = make_rows(collect(runs, failures), args.baseline)
    if rows:
        # TeacherCheckHook measures on the validation images: left out of a table of the test images
        results = [result for row in rows for result in row.results.values() if not result.test]
        teachers = {result.teachers['teacher'] for result in results if result.teachers}
        table = write_comparison(
            args.out, rows, args.baseline, dict(teacher=teachers.pop()) if len(teachers) == 1 else None
        )
        print(f'\n{table}\nwritten to {args.out}: table.md, results.json and plots')
    return report_failures(failures)


def main() -> None:
    """Compare; finished runs are kept when the user stops the program."""
    args = parse_args()
    from r2kd_mm.runs import run_to_exit

    run_to_exit(lambda: compare(args))


if __name__ == '__main__':
    main()
