"""Train the missing runs of one question of the evidence benchmark, then write a table, plots and a JSON file.

Each question compares several methods; ``grid.py`` lists them. A missing teacher is trained first. A run that several
questions need is trained once, and a second call resumes.

The results of finished runs are stored in the folder ``records``. Commit it, and another machine does not repeat them.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what the Runner meets when it starts

import argparse
from collections.abc import Mapping
from pathlib import Path

from grid import PAIRS, QUESTIONS, SCALES, Setting, Teacher
from records import Records

from r2kd_mm.engine.arguments import add_engine_options
from r2kd_mm.report import make_rows, write_comparison
from r2kd_mm.runs import (
    Run,
    State,
    collect,
    complete,
    load_result,
    look_at,
    make_engine,
    plan_runs,
    preview,
    report_failures,
    run_to_exit,
)
from r2kd_mm.runs.grid import Engine

HERE = Path(__file__).resolve().parent


def parse_args(description: str | None = __doc__) -> argparse.Namespace:
    """Read the command line of this script, or of ``conditions.py``, which evaluates the same runs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('question', choices=QUESTIONS, help='which table')
    parser.add_argument('--scale', choices=SCALES, default='short', help='how much is trained (default %(default)s)')
    parser.add_argument('--pair', choices=PAIRS, default='same-family', help='of networks (default %(default)s)')
    parser.add_argument('--seeds', nargs='+', type=int, default=list(range(5)), metavar='SEED', help='default: 0 to 4')
    parser.add_argument(
        '--teacher-seed', type=int, default=0, metavar='SEED', help='of the training of the teachers (default 0)'
    )
    add_engine_options(parser)
    parser.add_argument(
        '--runs', type=Path, default=Path('work_dirs/evidence'), metavar='DIR', help='of the runs (default %(default)s)'
    )
    parser.add_argument(
        '--out', type=Path, default=HERE / 'results', metavar='DIR', help='of tables and plots (default %(default)s)'
    )
    parser.add_argument(
        '--records', type=Path, default=HERE / 'records', metavar='DIR', help='of finished runs (default %(default)s)'
    )
    return parser.parse_args()


def answer_folder(args: argparse.Namespace) -> Path:
    """Return the folder of the answer."""
    return args.out / f'{args.question}_{args.pair}_{args.scale}{_of_teacher(args)}'


def _of_teacher(args: argparse.Namespace) -> str:
    return f'_teacher-{args.teacher_seed}' if args.teacher_seed else ''


def records_of(args: argparse.Namespace) -> Records:
    """Return the records of the scale."""
    return Records(args.records, args.runs / args.scale)


def plan_teachers(args: argparse.Namespace) -> dict[Teacher, Run]:
    """Plan the runs that train the teachers of the question, the default teacher first."""
    teachers = QUESTIONS[args.question].teachers
    methods = [teacher.training(SCALES[args.scale]) for teacher in teachers]
    return dict(zip(teachers, plan_runs(methods, [args.teacher_seed], args.runs / args.scale)))


def plan_students(args: argparse.Namespace, teachers: Mapping[Teacher, Run]) -> list[Run]:
    """Plan the runs of the question, once its teachers are trained."""
    question = QUESTIONS[args.question]
    checkpoints = {teacher: str(records_of(args).teacher(run)) for teacher, run in teachers.items()}
    setting = Setting(SCALES[args.scale], args.pair, checkpoints, question.teachers[0])
    return plan_runs(question.methods(setting), args.seeds, args.runs / args.scale / f'{args.pair}{_of_teacher(args)}')


def answer(args: argparse.Namespace) -> int:
    """Train, write the report, and return the exit status."""
    teachers, records = plan_teachers(args), records_of(args)
    engine = make_engine(args, args.runs / args.scale)
    if args.dry_run:
        print(preview(list(teachers.values()), engine))
        if all(state is State.FINISHED for state in look_at(teachers.values()).values()):
            print(preview(plan_students(args, teachers), engine))
        else:
            print(f'then the students of {len(args.seeds)} seeds, which need the checkpoints of the teachers')
        return 0
    failures = _complete(list(teachers.values()), engine, records)
    if not failures:
        runs = plan_students(args, teachers)
        failures = _complete(runs, engine, records)
        baseline = QUESTIONS[args.question].baseline
        rows = make_rows(collect(runs, failures), baseline)
        if rows:
            out = answer_folder(args)
            subject = f'Glyph-100, {args.pair} pair, {args.scale} scale'
            accuracies = {teacher.name: load_result(run).last for teacher, run in teachers.items()}
            table = write_comparison(out, rows, baseline, accuracies, subject)
            print(f'\n{table}\nwritten to {out}: table.md, results.json and plots')
    return report_failures(failures)


def _complete(runs: list[Run], engine: Engine, records: Records) -> dict[Run, str]:
    if restored := records.restore(runs):
        print(f'{len(restored)} of {len(runs)} runs are recorded in {str(records.file)!r}')
    try:
        return complete(runs, engine)
    finally:
        records.keep(runs)


def main() -> None:
    """Answer; finished runs are kept when the user stops the program."""
    args = parse_args()
    run_to_exit(lambda: answer(args))


if __name__ == '__main__':
    main()
