"""Declare the command-line options of ``r2kd-mm distill``, without importing torch or OpenMMLab."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from r2kd_mm.photos.options import AUTO, FORMATS, LOGGERS, METHODS, PRECISIONS, Options, flag_of
from r2kd_mm.photos.teachers import OWN, SHARED

INITIAL = "'none' for random weights, 'published', or a checkpoint file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``r2kd-mm distill`` to ``parser``, with the defaults of :class:`Options`."""
    defaults = {field.name: field.default for field in fields(Options)}

    def add(name: str, help: str, **settings: Any) -> None:
        value = defaults[name]
        shown = '' if value is None or value is False else f' (default: {value})'
        if name in (*OWN, *SHARED):
            settings['action'], value = 'append', argparse.SUPPRESS  # a default would be a first value
        parser.add_argument(flag_of(name), default=value, help=help + shown, **settings)

    parser.add_argument(
        'data',
        type=Path,
        metavar='PHOTOS',
        help='folder with train/<class>/ and val/<class>/, or with <class>/ alone, of which a part is set aside; or a '
        'table with the columns path,label[,split]',
    )
    names = 'timm/NAME, mmpretrain/NAME, torchvision/NAME, hf/FOLDER, r2kd/NAME, a config NAME.py or module:function'
    trained = ', or a trained NAME.pt (TorchScript, whose code is run), NAME.onnx or folder of an export'
    parser.add_argument(
        '--teacher',
        required=True,
        action='append',
        metavar='NAME',
        help=f'{names}{trained}; several by one --teacher for each, whose options are given in the same order',
    )
    parser.add_argument('--student', required=True, metavar='NAME', help=names)
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder for all that is written')
    without = "'none' for one of several without"
    add('teacher_ckpt', f'trained weights of the teacher, which is then not fine-tuned; {without}', metavar='FILE')
    add('teacher_classes', f'text file with the classes of these weights, one a line; {without}', metavar='FILE')
    add('teacher_init', f'what the teacher is fine-tuned from: {INITIAL}', metavar='WEIGHTS')
    add('student_init', f'what the student starts from: {INITIAL}', metavar='WEIGHTS')
    add('method', 'how the student learns', choices=(AUTO, *METHODS))
    add('epochs', 'length of each training', type=int, metavar='N')
    add('lr', 'learning rate of the student; of the recipe by default', type=float)
    add('teacher_lr', 'learning rate of the teacher; of the recipe by default', type=float, metavar='LR')
    add('batch_size', 'images a step', type=int, metavar='N')
    add('image_size', 'side of the images of the student; its own by default', type=int, metavar='PIXELS')
    add('teacher_image_size', 'side of the images of the teacher; its own by default', type=int, metavar='PIXELS')
    for name, what in (('teacher_mean', 'mean'), ('teacher_std', 'standard deviation')):
        of = f'{what} of its pixels in RGB, 0 to 255; stated ones by default'
        add(name, of, type=float, nargs=3, metavar=('R', 'G', 'B'))
    add('seeds', 'runs of the student, each with another seed', type=int, metavar='N')
    add('val_split', 'share of each class that is set aside where there is no val folder', type=float, metavar='SHARE')
    add('unlabelled', 'folder of photos without labels, for the distillation', type=Path, metavar='DIR')
    add('unlabelled_share', 'their share in a batch of the distillation', type=float, metavar='SHARE')
    add('replay', 'ask the teachers in the first N epochs only, and store their logits', type=int, metavar='N')
    add('devices', 'cpu, gpu, or the number of processes that train each run together, one a GPU', metavar='WHAT')
    add('jobs', 'runs of the student at a time', type=int, metavar='N')
    add('workers', 'processes that load images, in each run', type=int, metavar='N')
    parser.add_argument(
        '--logger',
        dest='loggers',
        nargs='+',
        choices=LOGGERS,
        default=defaults['loggers'],
        help='where each run is shown too; its package must be installed',
    )
    parser.add_argument(
        '--format',
        dest='formats',
        nargs='*',
        choices=FORMATS,
        default=defaults['formats'],
        help=f'what the student is exported to (default: {" ".join(Options.formats)})',
    )
    add('precision', 'write each format in this precision too, next to float32', choices=tuple(PRECISIONS))
    add(
        'with_normalization', 'normalise in the exported network, which then takes pixels 0 to 255', action='store_true'
    )
    add('with_softmax', 'apply softmax in the exported network, which then gives probabilities', action='store_true')
    license_help = 'licence of the exported student, as SPDX calls it, such as Apache-2.0'
    parser.add_argument('--license', '--licence', default=defaults['license'], metavar='ID', help=license_help)
    add('amp', 'mixed precision', action='store_true')
    add('allow_duplicates', 'accept images that are in both parts', action='store_true')
    for name, help in (
        ('flip', 'do not mirror pictures in training'),
        ('baseline', 'do not train the student alone'),
        ('page', 'write no page with figures'),
    ):
        parser.add_argument(f'--no-{name}', dest=name, action='store_false', help=help)
