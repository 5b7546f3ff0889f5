"""Print or write a config that combines a method with a teacher-student pair; configs/ lacks most combinations."""

import argparse
from pathlib import Path

from r2kd_mm.engine import clear_errors

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('method', help='a file of configs/_base_/methods, such as r2kd-mixup')
    parser.add_argument('pair', help='a file of configs/_base_/pairs, such as res34_res18_imagenet')
    parser.add_argument('--out', type=Path, metavar='FILE', help='the file to write (default: print the config)')
    args = parser.parse_args()
    if args.out is not None and args.out.suffix != '.py':
        parser.error(f'--out must end in .py, got {args.out}')
    return args


def main() -> None:
    """Compose, and print or write."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.engine.compose import Composition, write_config

        composition = Composition(CONFIGS, args.method, args.pair)
        if args.out is None:
            print(composition.text(), end='')
        else:
            write_config(composition, args.out)
            print(f'written to {args.out}; train it with python tools/train.py {args.out}')


if __name__ == '__main__':
    main()
