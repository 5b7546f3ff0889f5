"""Tune several configs with the same number of trials each, and choose the best values on validation images.

Then compare each tuned config with its untuned version on test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from r2kd_mm.engine.arguments import add_config_options, add_engine_options
from r2kd_mm.engine.study import PRUNERS

if TYPE_CHECKING:
    from r2kd_mm.runs.grid import Engine
    from r2kd_mm.runs.tuning import Search


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='A second call continues: trials that were begun are resumed, and more --trials are added to those that '
        'are there. The best trials are trained again with other seeds, and the one with the best mean on the '
        'validation images is compared with the config as it is, on the test images.',
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files; a method has the name of its file')
    parser.add_argument(
        '--space',
        nargs='+',
        required=True,
        metavar='SPACE.py',
        help='what to search, one file a config, in their order: tools/spaces has KD, DIST, DKD, CMKD and R2KD',
    )
    parser.add_argument('--trials', type=int, default=20, metavar='N', help='of each config (default: 20)')
    parser.add_argument('--pruner', choices=PRUNERS, default='median', help='stops poor trials (default: median)')
    parser.add_argument('--finalists', type=int, default=3, metavar='N', help='best trials to repeat (default: 3)')
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[1, 2, 3], metavar='SEED', help='of the finalists (default: 1 2 3)'
    )
    add_engine_options(parser)
    add_config_options(parser, 'change fields of every config, in all trials')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/tune'), metavar='DIR', help='(default: %(default)s)'
    )
    args = parser.parse_args()
    for name in ('trials', 'finalists'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    if len(args.space) != len(args.configs):
        parser.error(f'--space takes one file a config, got {len(args.space)} for {len(args.configs)} configs')
    return args


def search(args: argparse.Namespace) -> int:
    """Search, train the finalists, write the report, and return the exit status."""
    from r2kd_mm.runs import Method, make_engine, plan_runs
    from r2kd_mm.runs.compare import sole_driver
    from r2kd_mm.runs.tuning import Search, read_space

    methods = [Method(Path(config).stem, config, args.cfg_options) for config in args.configs]
    plan_runs(methods, args.seeds, args.out)  # refuses seeds and names that come twice
    spaces = [read_space(path) for path in args.space]
    searches = [
        Search(method, space, args.out / method.folder_name, args.pruner) for method, space in zip(methods, spaces)
    ]
    for one in searches:
        one.check()
    engine = make_engine(args, args.out)
    if args.dry_run:
        for one in searches:
            there = len(one.study.trials) if one.journal.is_file() else 0
            print(f'{one.method.name}: {there} of {args.trials} trials are there')
        print(f'trials, then {args.finalists} finalists and the config as it is with {len(args.seeds)} seeds, {engine}')
        return 0
    with sole_driver([args.out]):
        return _search(searches, args, engine)


def _search(searches: list[Search], args: argparse.Namespace, engine: Engine) -> int:
    from r2kd_mm.report.tuning import plot_search, tuning_table
    from r2kd_mm.runs import collect, complete, report_failures
    from r2kd_mm.runs.tuning import tune, winner

    tune(searches, args.trials, engine)
    rows, failures = [], {}
    for one in searches:
        runs = one.finalists(args.finalists, args.seeds)
        failures |= complete(runs, engine)
        results = collect(runs, failures)
        plot_search(one.folder, one.study, one.method.name)
        best = winner(runs, results)
        if best is not None:
            rows.append((runs[0].method, best, results, one.study))
    table = tuning_table(rows)
    (args.out / 'table.md').write_text(table)
    print(f'\n{table}\nwritten to {args.out}: table.md, and importance.png and slices.png of each method')
    return report_failures(failures)


def main() -> None:
    """Tune; finished runs are kept when the user stops the program."""
    args = parse_args()
    from r2kd_mm.runs import run_to_exit

    run_to_exit(lambda: search(args))


if __name__ == '__main__':
    main()
