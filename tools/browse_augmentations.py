"""Draw images of the first training batch of a config, clean and augmented, without training."""

import argparse
from pathlib import Path

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.arguments import add_config_options


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the run; its seed decides what is drawn')
    parser.add_argument(
        '--out', type=Path, metavar='PNG', help='file to write (default: <name of the config>_views.png)'
    )
    parser.add_argument('--num', type=int, default=8, metavar='N', help='number of images (default: %(default)s)')
    add_config_options(parser, 'change fields of the config')
    args = parser.parse_args()
    if args.num < 1:
        parser.error(f'--num must be at least 1, got {args.num}')
    args.out = args.out or Path(f'{Path(args.config).stem}_views.png')
    if args.out.suffix != '.png':
        parser.error(f'--out must end in .png, got {args.out}')
    return args


def main() -> None:
    """Draw the first step."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.report.first_step import browse_augmentations

        browse_augmentations(args)


if __name__ == '__main__':
    main()
