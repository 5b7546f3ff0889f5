"""Train several methods on digits, each with several seeds, and write the accuracies as a table and a JSON file."""

import argparse
from collections.abc import Callable
from pathlib import Path

from r2kd_mm.report import make_rows, to_markdown, write_results
from r2kd_mm.runs import (
    LocalEngine,
    Method,
    Result,
    Run,
    collect,
    complete,
    plan_runs,
    report_failures,
    run_to_exit,
)

ROOT = Path(__file__).resolve().parents[2]
Results = dict[Method, dict[int, Result]]
RESULTS = ROOT / 'benchmarks' / 'results'


def compare_on_digits(
    description: str | None,
    name: str,
    baseline: str,
    methods: Callable[[Path, Path], list[Method]],
    derive: Callable[[Results, list[Run]], Results] | None = None,
) -> None:
    """Read the command line, train the missing runs, and write ``results/<name>.json`` and ``.md``.

    Args:
        description: Text of ``--help``.
        name: Name of the files, and of the folder of the runs in ``work_dirs``.
        baseline: Name of the method that the others are compared with.
        methods: Function that makes the variants from the teacher's checkpoint and the folder of the runs.
        derive: Function that returns further rows from the results and the runs, such as exports of the students.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', type=Path, default=Path('work_dirs/res14_digits/epoch_60.pth'))
    parser.add_argument('--seeds', nargs='+', type=int, default=list(range(5)))
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--runs', type=Path, default=Path('work_dirs', name), help='folder of the runs')
    args = parser.parse_args()

    def compare() -> int:
        runs = plan_runs(methods(args.teacher, args.runs), args.seeds, args.runs)
        failures = complete(runs, LocalEngine(args.jobs))
        if not failures:  # else the results of before stay
            results = collect(runs, failures)
            rows = make_rows({**results, **(derive(results, runs) if derive else {})}, baseline)
            table = to_markdown(rows, baseline)
            write_results(RESULTS / f'{name}.json', rows, baseline)
            (RESULTS / f'{name}.md').write_text(table)
            print(f'\n{table}')
        return report_failures(failures)

    run_to_exit(compare)
