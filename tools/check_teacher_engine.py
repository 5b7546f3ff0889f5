"""Run the teachers of a config with and without the teacher engine; compare logits and speed on validation images."""

import argparse

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.arguments import add_config_options


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a distillation')
    parser.add_argument(
        '--engine', metavar='PRESET', help="what to check, such as exact (default: the config's, else fast)"
    )
    parser.add_argument('--batches', type=int, default=4, help='validation batches to compare (default %(default)s)')
    parser.add_argument(
        '--choose',
        action='store_true',
        help='time memory formats and the split of the views on a training batch, and print the fastest as options',
    )
    add_config_options(
        parser,
        'change fields of the config: model.teacher_ckpt=x.pth val_dataloader.batch_size=64 '
        'model.teacher_engine.dtype=bf16',
    )
    args = parser.parse_args()
    if args.batches < 1:
        parser.error(f'--batches must be at least 1, got {args.batches}')
    return args


def main() -> None:
    """Run both ways and report."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.report.engine_choice import print_choice
        from r2kd_mm.report.teacher_engine import check_teacher_engine, load_config

        if args.choose:
            print_choice(load_config(args))
        else:
            check_teacher_engine(args)


if __name__ == '__main__':
    main()
