"""Export students in several formats and precisions, measure each file on this machine, and recommend one file.

python tools/ship.py work_dirs/run --targets onnx-float32,onnx-int8,openvino-int8

A RUN is the folder of a run or a checkpoint; several runs, such as pruned students, share the table and the plot.
"""

import argparse

from r2kd_mm.engine import clear_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'runs', nargs='+', metavar='RUN', help='folder of a run, for its last checkpoint; or a checkpoint'
    )
    parser.add_argument(
        '--targets', required=True, metavar='LIST', help='such as onnx-float32,onnx-int8,executorch-int8'
    )
    parser.add_argument('--out', default='work_dirs/ship', metavar='DIR', help='folder to make (default: %(default)s)')
    parser.add_argument('--config', help='config file of the runs (default: that in each checkpoint)')
    parser.add_argument(
        '--max-drop',
        type=float,
        default=1.0,
        metavar='POINTS',
        help='accuracy that a precision below float32 may cost (default: %(default)s)',
    )
    parser.add_argument(
        '--calibration-images',
        metavar='DIR',
        help='folder of images from which int8 takes the range of each layer (default: the training data of each run)',
    )
    return parser.parse_args()


def main() -> None:
    """Export, measure, and print the table."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.export.ship import find_students, ship

        shipped = ship(
            find_students(args.runs),
            args.targets.split(','),
            args.out,
            args.max_drop,
            args.config,
            args.calibration_images,
        )
        print(shipped.table())
        print(f'wrote {args.out}: table.md, ship.json, front.png, and a folder for each file')


if __name__ == '__main__':
    main()
