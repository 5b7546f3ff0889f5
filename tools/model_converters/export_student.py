"""Export the student of a checkpoint to a folder that can be used without r2kd_mm.

python tools/model_converters/export_student.py work_dirs/run/epoch_240.pth exports/student --format onnx

The folder holds the network, export.json (preprocessing, classes) and a model card. The export is compared with the
student on images of the run's validation data or of --images; if the logits differ, it is not written.
"""

import argparse
from typing import Any

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
    parser.add_argument(
        '--precision',
        default='float32',
        help='; '.join(
            f'{name}: float32, {", ".join(form.precisions)}' for name, form in FORMATS.items() if form.precisions
        )
        + ' (default: %(default)s)',
    )
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
        help='folder of images from which int8 takes the range of each layer (default: the training data of the run)',
    )
    parser.add_argument(
        '--with-normalization', action='store_true', help='normalise in the network, which then takes pixels 0 to 255'
    )
    parser.add_argument(
        '--with-softmax', action='store_true', help='apply softmax in the network, which then gives probabilities'
    )
    parser.add_argument(
        '--license',
        '--licence',
        metavar='ID',
        help='licence for the card and export.json, as SPDX calls it, such as Apache-2.0',
    )
    return parser.parse_args()


def main() -> None:
    """Load, write, compare, report."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.export import TOLERANCE, export_student

        done = export_student(
            args.checkpoint,
            args.out,
            args.format,
            args.config,
            args.images,
            args.precision,
            args.max_drop,
            args.calibration_images,
            args.with_normalization,
            args.with_softmax,
            args.license,
        )
        print(
            f'largest difference to the student on {done.num_images} images: {done.difference:.1e} of the largest '
            f'{"probability" if args.with_softmax else "logit"} (allowed: {TOLERANCE:.0e})'
        )
        print(_lowered(done.measured), end='')
        print(f'wrote {done.folder}: {", ".join(done.files)}')


def _lowered(measured: Any) -> str:
    if measured is None:
        return ''
    lines = [
        f'{name}: {found.top1:.2f} % ({found.low:.1f} to {found.high:.1f}) of {measured.num_images} validation images, '
        f'{measured.bytes[name]:,} bytes, {measured.milliseconds[name][1]:.2f} ms an image'
        for name, found in measured.accuracy.items()
    ]
    lines.append(f'{measured.agreement:.2f} % of these images get the same class from both')
    lines += [f'note: {note}' for note in measured.notes]
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    main()
