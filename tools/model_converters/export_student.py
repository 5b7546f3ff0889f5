"""Take the student out of a checkpoint, in a folder that works without r2kd_mm.

python tools/model_converters/export_student.py work_dirs/run/epoch_240.pth exports/student --format onnx

The folder holds the network, export.json (preprocessing, classes) and a model card. The export is compared with the
student on real images, those of the run's validation data or of --images, and refused where it differs.
"""

import argparse

from r2kd_mm.engine import clear_errors
from r2kd_mm.export import FORMATS


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='checkpoint of a run, with or without a teacher; nothing in it is run')
    parser.add_argument('out', help='the folder to make')
    parser.add_argument(
        '--format',
        choices=FORMATS,
        required=True,
        help='; '.join(f'{name}: {form.summary}' for name, form in FORMATS.items()),
    )
    parser.add_argument('--config', help='config file of the run (default: that in the checkpoint)')
    parser.add_argument(
        '--images',
        help='folder of images to compare on (default: the validation data of the run); where the run does not say '
        'what size its network takes, all must have it',
    )
    return parser.parse_args()


def main() -> None:
    """Load, write, compare, report."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.export import TOLERANCE, export_student

        done = export_student(args.checkpoint, args.out, args.format, args.config, args.images)
        print(
            f'largest difference to the student on {done.num_images} images: {done.difference:.1e} of the largest '
            f'logit (allowed: {TOLERANCE:.0e})\nwrote {done.folder}: {", ".join(done.files)}'
        )


if __name__ == '__main__':
    main()
