"""Write the frozen teachers of a distillation as ONNX files, and a config that uses these files as teachers.

python tools/model_converters/export_teachers.py CONFIG work_dirs/teachers --precision int8
python tools/train.py work_dirs/teachers/config.py

On a CPU, ONNX Runtime often computes a network in less time than PyTorch, and in int8 faster still. Each file is
compared with its network on training images; if their logits differ too much, the export fails.
"""

import argparse
from pathlib import Path

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.arguments import add_config_options


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of a distillation')
    parser.add_argument('out', type=Path, help='the folder to make')
    parser.add_argument(
        '--precision', choices=('float32', 'int8'), default='float32', help='of the files (default: %(default)s)'
    )
    parser.add_argument(
        '--images', type=int, default=512, metavar='N', help='training images that int8 is calibrated on (%(default)s)'
    )
    add_config_options(parser, 'change fields of the config: model.teacher_ckpt=x.pth')
    args = parser.parse_args()
    if args.images < 2:
        parser.error(f'--images must be at least 2, got {args.images}')
    return args


def main() -> None:
    """Write, compare, report."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.export.teachers import CONFIG, export_teachers
        from r2kd_mm.report.teacher_engine import load_config

        done = export_teachers(load_config(args), args.out, args.precision, args.images)
        for name, teacher in done.items():
            network, file = teacher.milliseconds
            print(
                f'{name}: {teacher.top1:.2f} % of the images keep their class, correlation of the logits '
                f'{teacher.correlation:.6f}; {network:.1f} ms a batch as a network, {file:.1f} ms as a file'
            )
        print(f'train with it: python tools/train.py {args.out / CONFIG}')


if __name__ == '__main__':
    main()
