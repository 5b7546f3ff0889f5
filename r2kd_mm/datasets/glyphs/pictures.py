"""Draw the two pictures of docs/glyph100.md: images of every class, and the same images at each difficulty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2kd_mm.datasets.glyph100 import DIFFICULTY
from r2kd_mm.datasets.glyphs import CHARACTERS, Painter

DIFFICULTIES = (0.0, 0.25, 0.5, 0.75, 1.0)
SCENES = range(0, 100, 6)  # of different classes


def write_pictures(folder: Path) -> None:
    """Write ``glyph100_classes.png`` and ``glyph100_difficulty.png`` into ``folder``, which is created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in dict(classes=picture_of_classes, difficulty=picture_of_difficulties).items():
        picture().savefig(folder / f'glyph100_{name}.png', dpi=80, bbox_inches='tight')


def picture_of_classes() -> Figure:
    """Draw an image of the training split and one of the shifted split for every class."""
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
    """Draw a row of images, with ``label`` on its left."""
    axis.imshow(np.concatenate(images, axis=1))
    axis.set_ylabel(label, rotation=0, ha='right', va='center')
    axis.set(xticks=[], yticks=[])
