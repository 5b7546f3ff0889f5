"""Make one HTML page that shows what trained runs did, with every figure as PNG and its numbers as CSV beside it."""

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
        help='work_dir of tools/train.py, run of tools/compare.py, or a folder that holds such; runs in folders that '
        'differ by seed_<n> are one method',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the page')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='what the methods are called, in the order found')
    parser.add_argument(
        '--images', type=int, default=2000, metavar='N', help='look at N validation images (default: %(default)s)'
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
        from mmengine.logging import MMLogger
        from mmengine.registry import init_default_scope

        from r2kd_mm.corruptions import FAMILIES, NAMES, SEVERITIES
        from r2kd_mm.engine.fileio import check_writable
        from r2kd_mm.report import find_groups, make_exhibits, make_summary, measure, write_page

        names, severities = NAMES, SEVERITIES
        if args.fast:
            names, severities = [family[0] for family in FAMILIES.values()], SEVERITIES[::2]
        check_writable(args.out, 'folder', '--out')  # before minutes of measuring
        groups = find_groups(args.runs, args.names)
        init_default_scope('r2kd_mm')
        MMLogger.get_instance('analyze', log_level='WARNING')  # which checkpoints are loaded goes without saying
        found = measure(groups, args.images, [(name, severity) for name in names for severity in severities])
        unreadable = sum(run.unreadable_lines for group in groups for run in group.runs)
        lines = 'line' if unreadable == 1 else 'lines'
        notes = found.notes + ([f'{unreadable} {lines} of the logs could not be read.'] if unreadable else [])
        page = write_page(
            args.out,
            'What the runs did',
            f'{len(groups)} methods, {sum(len(group.runs) for group in groups)} runs. Measured on {found.data}, '
            f'{len(found.classes)} classes.',
            make_summary(found),
            make_exhibits(groups, found),
            notes,
        )
        print(f'wrote {page}')
        if not args.open_no:
            webbrowser.open(page.resolve().as_uri())


if __name__ == '__main__':
    main()
