"""Draw the splits of Glyph-100 ahead of a run, which would otherwise draw them when it starts; or show what they hold.

    python tools/dataset_converters/make_glyph100.py data/glyph100
    python tools/dataset_converters/make_glyph100.py docs/images --pictures

The pictures are those of docs/glyph100.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2kd_mm.datasets import Glyph100
from r2kd_mm.datasets.glyph100 import DIFFICULTY, SIZES
from r2kd_mm.datasets.glyphs import CHARACTERS, SPLITS, Painter
from r2kd_mm.engine import clear_errors

DIFFICULTIES = (0.0, 0.25, 0.5, 0.75, 1.0)
SCENES = range(0, 100, 6)  # of different classes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='cache_dir of the data set, or where the pictures go')
    parser.add_argument('--splits', nargs='+', choices=SPLITS, default=SPLITS, help='default: all')
    parser.add_argument('--size', type=int, help=f'images of each split (default {SIZES})')
    parser.add_argument('--seed', type=int, default=0, help='of the images (default %(default)s)')
    parser.add_argument('--difficulty', type=float, default=DIFFICULTY, help='0 to 1 (default %(default)s)')
    parser.add_argument('--pictures', action='store_true', help='draw the pictures of the data card instead')
    return parser.parse_args(argv)


def picture_of_classes() -> Figure:
    """Every class: an image of the training split and one of the shifted split."""
    train, shifted = (Painter(split, seed=0, difficulty=DIFFICULTY) for split in ('train', 'shifted'))
    figure = Figure(figsize=(12, 5.5), layout='constrained')
    axes = figure.subplots(10, len(CHARACTERS) // 10)
    for label, (character, axis) in enumerate(zip(CHARACTERS, axes.flat)):
        show(axis, [train.paint(label), shifted.paint(label)], character)
    return figure


def picture_of_difficulties() -> Figure:
    """Draw the same scenes at each difficulty, and others of the shifted split."""
    rows = [('train', difficulty) for difficulty in DIFFICULTIES] + [('shifted', DIFFICULTY)]
    figure = Figure(figsize=(12, 4.4), layout='constrained')
    for (split, difficulty), axis in zip(rows, figure.subplots(len(rows), 1)):
        painter = Painter(split, seed=0, difficulty=difficulty)
        show(axis, [painter.paint(index) for index in SCENES], f'{split} {difficulty:g}')
    return figure


def show(axis: Axes, images: list[np.ndarray], label: str) -> None:
    """A row of images, with ``label`` on its left."""
    axis.imshow(np.concatenate(images, axis=1))
    axis.set_ylabel(label, rotation=0, ha='right', va='center')
    axis.set(xticks=[], yticks=[])


def main(argv: list[str] | None = None) -> None:
    """Draw what is not there yet."""
    args = parse_args(argv)
    with clear_errors():
        if args.pictures:
            args.folder.mkdir(parents=True, exist_ok=True)
            for name, picture in dict(classes=picture_of_classes, difficulty=picture_of_difficulties).items():
                picture().savefig(args.folder / f'glyph100_{name}.png', dpi=80, bbox_inches='tight')
            return
        for split in args.splits:
            dataset = Glyph100(
                split, size=args.size, seed=args.seed, difficulty=args.difficulty, cache_dir=str(args.folder)
            )
            print(f'\n{dataset.cache_file}: {len(dataset)} images')


if __name__ == '__main__':
    main()
