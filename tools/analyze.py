"""Make one HTML page about trained runs, and next to it a PNG and a CSV file for each figure."""

import argparse
import webbrowser
from pathlib import Path

from r2kd_mm.engine import clear_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='work_dir of tools/train.py, run of tools/compare.py, or a folder that holds them; runs in folders that '
        'differ by seed_<n> are one method',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the page')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='names of the methods, in the order found')
    parser.add_argument(
        '--images', type=int, default=2000, metavar='N', help='measure on N validation images (default: %(default)s)'
    )
    parser.add_argument(
        '--fast',
        action='store_true',
        help='one corruption of each kind at every second severity, instead of all at all severities',
    )
    parser.add_argument('--open-no', action='store_true', help='do not open the page in a browser')
    args = parser.parse_args()
    if args.images < 2:
        parser.error(f'--images must be at least 2, got {args.images}')
    return args


def main() -> None:
    """Find, measure, write."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.report import analyze

        page = analyze(args.runs, args.out, args.names, args.images, args.fast)
        print(f'wrote {page}')
        if not args.open_no:
            webbrowser.open(page.resolve().as_uri())


if __name__ == '__main__':
    main()
