"""Write a small synthetic image set in the format of a public data set, to try a config without a download.

    python tools/dataset_converters/make_mini.py imagenet data/mini-imagenet
    python tools/train.py configs/r2kd/r2kd_res50_mbv1_imagenet.py --cfg-options \
        train_dataloader.dataset.data_root=data/mini-imagenet val_dataloader.dataset.data_root=data/mini-imagenet \
        test_dataloader.dataset.data_root=data/mini-imagenet ...

Each class has its own colour and shape on a noisy background, so that a network learns it in seconds. With --archive
the files are those that prepare_<name>.py takes. A contents.json next to the files states how many they are.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from mini import FORMATS, Miniature

from r2kd_mm.engine import clear_errors

CONTENTS_FILE = 'contents.json'
GENERATOR = 'make_mini.py'
DEFAULT_SIZE = 64


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', choices=sorted(FORMATS), help='the image set whose format is written')
    parser.add_argument(
        'dst', type=lambda path: Path(path).resolve(), help='folder to write; its parent is made if need be'
    )
    parser.add_argument('--classes', type=int, default=10, help='number of classes (default %(default)s)')
    parser.add_argument('--train', type=int, default=20, help='training images a class (default %(default)s)')
    parser.add_argument('--val', type=int, default=10, help='validation or test images a class (default %(default)s)')
    parser.add_argument(
        '--size', type=int, help=f'shorter side in pixels (default {DEFAULT_SIZE}, where the format does not fix it)'
    )
    parser.add_argument(
        '--layout',
        help='imagenet: folders (default), or annotations: a flat validation split with meta/val.txt; '
        'tiny_imagenet: published (default), or folders: the validation split in class folders',
    )
    parser.add_argument('--archive', action='store_true', help='pack the files as they are published')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same files (default %(default)s)')
    parser.add_argument('--force', action='store_true', help='replace a dst that this tool has written')
    args = parser.parse_args(argv)

    form = FORMATS[args.name]
    for option in ('classes', 'train', 'val', 'size'):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            parser.error(f'--{option} must be at least 1, got {getattr(args, option)}')
    if form.size is not None and args.size not in (None, form.size):
        parser.error(f'--size of {args.name} is {form.size}, got {args.size}')
    if args.layout is not None and args.layout not in form.layouts:
        parser.error(f'--layout of {args.name} must be one of {", ".join(form.layouts)}, got {args.layout}')
    args.size = args.size or form.size or DEFAULT_SIZE
    args.layout = args.layout or form.layouts[0]
    return args


def is_ours(folder: Path) -> bool:
    """Tell whether this tool has written ``folder``."""
    try:
        return json.loads((folder / CONTENTS_FILE).read_text()).get('generator') == GENERATOR
    except (OSError, ValueError):
        return False


def write_miniature(folder: Path, args: argparse.Namespace) -> None:
    """Write what ``args`` asks for into ``folder``, which is made."""
    form = FORMATS[args.name]
    mini = Miniature(args.classes, args.train, args.val, args.size, args.layout, np.random.default_rng(args.seed))
    folder.mkdir(parents=True)
    if args.archive:
        with tempfile.TemporaryDirectory() as unpacked:
            form.write(Path(unpacked), mini)
            form.pack(Path(unpacked), folder)
    else:
        form.write(folder, mini)
    images = dict(zip(form.splits, (args.classes * args.train, args.classes * args.val)))
    contents = dict(classes=args.classes, images=images, generator=GENERATOR)
    (folder / CONTENTS_FILE).write_text(json.dumps(contents) + '\n')


def main(argv: list[str] | None = None) -> int:
    """Write the files next to ``dst`` and move them there once they are complete; an error leaves nothing."""
    args = parse_args(argv)
    in_use = args.dst.exists() and not (args.dst.is_dir() and not any(args.dst.iterdir()))
    if in_use and not (args.force and is_ours(args.dst)):
        print(
            f'{args.dst} exists and is not an empty folder; give another one, or --force to replace a folder that '
            'this tool has written',
            file=sys.stderr,
        )
        return 1
    partial = args.dst.with_name(f'{args.dst.name}.partial')
    with clear_errors():
        from r2kd_mm.engine.fileio import check_writable

        check_writable(args.dst.parent, 'folder', 'the argument dst')
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        try:
            write_miniature(partial, args)
            if args.dst.is_dir():
                shutil.rmtree(args.dst)
            partial.replace(args.dst)
        except KeyboardInterrupt:
            raise RuntimeError(f'interrupted; {args.dst} is as it was, and the same command starts again') from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    train, val = args.classes * args.train, args.classes * args.val
    print(f'{args.dst}: {args.classes} classes, {train} training and {val} validation images')
    if args.archive:
        print(
            f'prepare it: python tools/dataset_converters/prepare_{args.name}.py {args.dst} DST '
            f'--contents {args.classes} {train} {val}'
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())
