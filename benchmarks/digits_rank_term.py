"""What R2KD's rank term brings on the digits: every trainable estimator at several weights, the released one, and none.

Everything else is ``configs/r2kd/r2kd_res14_res6_digits.py``: value term, pruned teacher, CutMix. Train the teacher
first: ``python tools/train.py configs/supervised/res14_digits.py``. A second call goes on where the first one stopped.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it mends what the Runner meets when it starts

import argparse
from pathlib import Path

from r2kd_mm.comparison import Method, collect, complete, make_rows, plan_runs, to_markdown, write_report

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'r2kd' / 'r2kd_res14_res6_digits.py'
RESULTS = ROOT / 'benchmarks' / 'results'
BASELINE = 'no rank term'
ESTIMATORS = ('sigmoid', 'permutahedron', 'blackbox')
WEIGHTS = (0.5, 2.0)


def methods(teacher: Path) -> list[Method]:
    """The variants, the baseline first."""
    settings = {BASELINE: ('hard', 0.0), 'hard (released), weight 2': ('hard', 2.0)}
    settings.update(
        {f'{estimator}, weight {weight:g}': (estimator, weight) for estimator in ESTIMATORS for weight in WEIGHTS}
    )
    return [
        Method(
            name,
            str(CONFIG),
            {
                'model.teacher_ckpt': str(teacher),
                'model.losses.loss_rank.estimator': estimator,
                'model.losses.loss_rank.loss_weight': weight,
            },
        )
        for name, (estimator, weight) in settings.items()
    ]


def main() -> None:
    """Train what is missing, then write the table and the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', type=Path, default=Path('work_dirs/res14_digits/epoch_60.pth'))
    parser.add_argument('--seeds', nargs='+', type=int, default=list(range(5)))
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--runs', type=Path, default=Path('work_dirs/digits_rank_term'), help='folder of the runs')
    args = parser.parse_args()
    runs = plan_runs(methods(args.teacher), args.seeds, args.runs)
    failures = complete(runs, args.jobs)
    rows = make_rows(collect(runs, failures), BASELINE)
    table = to_markdown(rows, BASELINE)
    write_report(RESULTS / 'digits_rank_term.json', rows, BASELINE)
    (RESULTS / 'digits_rank_term.md').write_text(table)
    print(f'\n{table}')


if __name__ == '__main__':
    main()
