"""What replaying the teachers' logits costs in accuracy, by the cycle, and what joint student views do; on the digits.

Everything else is ``configs/r2kd/r2kd-replay_res14_res6_digits.py``. Train the teacher first:
``python tools/train.py configs/supervised/res14_digits.py``. A second call goes on where the first one stopped.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it mends what the Runner meets when it starts

import argparse
from pathlib import Path

from r2kd_mm.comparison import Method, collect, complete, make_rows, plan_runs, to_markdown, write_report

ROOT = Path(__file__).resolve().parents[1]
REPLAY = ROOT / 'configs' / 'r2kd' / 'r2kd-replay_res14_res6_digits.py'
LIVE = ROOT / 'configs' / 'r2kd' / 'r2kd_res14_res6_digits.py'
RESULTS = ROOT / 'benchmarks' / 'results'
BASELINE = 'live teachers, a box for each image'
CYCLES = (1, 4, 16)


def methods(teacher: Path, store: Path) -> list[Method]:
    """The variants, the baseline first: it draws as a replay does, and never repeats."""
    live = {
        BASELINE: {'model.augmentation.per_image': True, 'train_dataloader.sampler.type': 'r2kd_mm.PairedSampler'},
        'live teachers, a box for each batch': {},
        'live teachers, joint student views': {
            'model.augmentation.per_image': True,
            'train_dataloader.sampler.type': 'r2kd_mm.PairedSampler',
            'model.joint_views': True,
        },
    }
    replayed = {
        f'replay, cycle {cycle}': {'train_cfg.cycle': cycle, 'model.replay.folder': str(store)} for cycle in CYCLES
    }
    return [
        Method(name, str(config), {'model.teacher_ckpt': str(teacher), **options})
        for config, group in ((LIVE, live), (REPLAY, replayed))
        for name, options in group.items()
    ]


def main() -> None:
    """Train what is missing, then write the table and the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', type=Path, default=Path('work_dirs/res14_digits/epoch_60.pth'))
    parser.add_argument('--seeds', nargs='+', type=int, default=list(range(5)))
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--runs', type=Path, default=Path('work_dirs/digits_replay'), help='folder of the runs')
    args = parser.parse_args()
    runs = plan_runs(methods(args.teacher, args.runs / 'store'), args.seeds, args.runs)
    failures = complete(runs, args.jobs)
    rows = make_rows(collect(runs, failures), BASELINE)
    table = to_markdown(rows, BASELINE)
    write_report(RESULTS / 'digits_replay.json', rows, BASELINE)
    (RESULTS / 'digits_replay.md').write_text(table)
    print(f'\n{table}')


if __name__ == '__main__':
    main()
