"""Draw images and write archives for the miniatures (small synthetic image sets); all formats share this code."""

from __future__ import annotations

import colorsys
import gzip
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw

NUM_SHAPES = 3
MATLAB_HEADING = b'MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 1970'
MATLAB_HEADING_LENGTH = 116  # bytes, before what is not text


def draw_image(
    label: int, num_classes: int, size: int, rng: np.random.Generator, longest_side: float = 1.5
) -> Image.Image:
    """Draw an object of class ``label`` somewhere in a noisy image.

    Args:
        label: Class, in ``[0, num_classes)``: decides the hue and, modulo three, the shape.
        num_classes: Number of classes, over which the hues are spread.
        size: Shorter side of the image, in pixels.
        rng: Decides everything else: the longer side, the noise, place, size and brightness of the object.
        longest_side: Upper limit of the longer side, in multiples of ``size``; 1 for a square.
    """
    width, height = rng.permutation([size, int(size * rng.uniform(1, longest_side))])
    image = Image.fromarray(rng.integers(60, 196, (height, width, 3), dtype=np.uint8))
    radius = size * rng.uniform(0.25, 0.45)
    centre = np.array([rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)])
    colour = colorsys.hsv_to_rgb(label / num_classes, 1, rng.uniform(0.8, 1))
    fill = tuple(round(255 * channel) for channel in colour)
    draw = ImageDraw.Draw(image)
    shape = label % NUM_SHAPES
    if shape == 0:
        draw.ellipse([*(centre - radius), *(centre + radius)], fill=fill)
    else:
        draw.regular_polygon((*centre, radius), n_sides=2 + shape, rotation=int(rng.integers(360)), fill=fill)
    return image


@dataclass(frozen=True)
class Miniature:
    """The size and content of a miniature.

    Attributes:
        classes: Number of classes.
        train: Training images a class.
        val: Validation or test images a class.
        size: Shorter side of the images, in pixels.
        layout: One of the format's layouts.
        rng: Source of all randomness.
    """

    classes: int
    train: int
    val: int
    size: int
    layout: str
    rng: np.random.Generator

    def shuffled_labels(self, per_class: int) -> list[int]:
        """``per_class`` labels of each class in a random order."""
        return (self.rng.permutation(self.classes * per_class) % self.classes).tolist()

    def save_image(self, label: int, path: Path, longest_side: float = 1.5) -> None:
        """Write an image of class ``label`` as a JPEG file, whose folder is made if need be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_image(label, self.classes, self.size, self.rng, longest_side).save(path, 'JPEG', quality=90)


@dataclass(frozen=True)
class Format:
    """The layout of a data set on the disk.

    Attributes:
        write: Writes the miniature, as it lies on the disk after unpacking, into a folder that exists and is empty.
        pack: Writes what ``write`` left in the first folder into the second, as the published archives.
        splits: Names of the two splits.
        layouts: The layouts that are in use, the default first.
        size: Side of the images in pixels where the format fixes it.
    """

    write: Callable[[Path, Miniature], None]
    pack: Callable[[Path, Path], None]
    splits: tuple[str, str] = ('train', 'test')
    layouts: tuple[str, ...] = ('published',)
    size: int | None = None


def save_matlab(path: Path, content: dict[str, np.ndarray]) -> None:
    """Write arrays as a MATLAB 5 file, the same bytes for the same arrays: scipy puts the time into its heading."""
    from scipy.io import savemat

    savemat(path, content, do_compression=True)
    with path.open('r+b') as file:
        file.write(MATLAB_HEADING.ljust(MATLAB_HEADING_LENGTH))


def write_archive(path: Path, folder: Path, *parts: str, prefix: str = '') -> None:
    """Pack files into a zip or tar archive, the same bytes for the same files.

    Args:
        path: The archive; its suffix tells the kind: ``.zip``, ``.tar``, ``.tgz`` or ``.tar.gz``.
        folder: Where the files are.
        parts: Files and folders below ``folder``; none for all.
        prefix: Folder inside the archive, with a slash at its end.
    """
    tops = [folder / part for part in parts] or [folder]
    files = sorted({file for top in tops for file in [top, *top.rglob('*')] if file.is_file()})
    names = {file: prefix + file.relative_to(folder).as_posix() for file in files}
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for file, name in names.items():
                archive.writestr(zipfile.ZipInfo(name), file.read_bytes())  # dated 1980, the oldest that zip can say
        return
    with path.open('wb') as raw:
        if path.suffix == '.tar':
            _write_tar(raw, names)
        else:
            with gzip.GzipFile(filename='', fileobj=raw, mode='wb', mtime=0) as compressed:
                _write_tar(compressed, names)


def _write_tar(stream: BinaryIO, names: dict[Path, str]) -> None:
    with tarfile.open(fileobj=stream, mode='w') as archive:
        for file, name in names.items():
            member = tarfile.TarInfo(name)
            member.size = file.stat().st_size
            with file.open('rb') as content:
                archive.addfile(member, content)
