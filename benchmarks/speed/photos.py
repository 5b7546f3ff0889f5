"""Measure the time and memory that `r2kd-mm distill` needs to check a large folder of photos before training.

python benchmarks/speed/photos.py --photos 1300000
python benchmarks/speed/photos.py --photos 100000 --table

The folder holds many hard links to a few thousand small files. So every training photo has copies, and the search for
duplicates reads each file completely. Of real photos, it reads only the ends, because they differ. Step "list" finds
all photos and their copies; step "decode" opens up to 20,000 of them, with sides of 8 to 96 pixels.
"""

from __future__ import annotations

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import csv
import io
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
from PIL import Image

from r2kd_mm.environment import environment
from r2kd_mm.photos.folder import look_at_photos
from r2kd_mm.photos.pictures import look_into_photos

CLASSES = 1000
SOURCES = 2000  # different training files; a file system allows some 65,000 links to one
SIDES = (8, 96)  # pixels of noise, 0.5 to 10 kB
VAL_SHARE = 0.04  # as in ImageNet


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--photos', type=common.positive, default=100_000, help='in the tree (default: 100000)')
    parser.add_argument('--table', action='store_true', help='give the photos as a table of paths, labels and splits')
    parser.add_argument('--out', type=Path, help='JSON file to write (default: one in results/)')
    return parser.parse_args()


def noise(generator: random.Random) -> bytes:
    """Return a JPEG file of random pixels."""
    side = generator.randint(*SIDES)
    pixels = np.frombuffer(generator.randbytes(3 * side * side), np.uint8).reshape(side, side, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'JPEG', quality=90)
    return file.getvalue()


def make_tree(root: Path, photos: int, classes: int = CLASSES, sources: int = SOURCES) -> None:
    """Write a tree of ``photos`` hard links, a share of them to measure on.

    Args:
        root: Folder to make.
        photos: Number of links.
        classes: Number of classes.
        sources: Number of different files of each part.
    """
    generator = random.Random(0)
    for part, count in (('train', photos - round(VAL_SHARE * photos)), ('val', round(VAL_SHARE * photos))):
        (root / 'sources' / part).mkdir(parents=True)
        files = [root / 'sources' / part / f'{index}.jpg' for index in range(min(sources, count))]
        for file in files:
            file.write_bytes(noise(generator))
        for label in range(classes):
            (root / 'photos' / part / f'class_{label:04}').mkdir(parents=True)
        for index in range(count):
            os.link(files[index % len(files)], root / 'photos' / part / f'class_{index % classes:04}' / f'{index}.jpg')


def write_table(root: Path) -> Path:
    """Write a table of the photos of the tree."""
    table = root / 'photos.csv'
    with table.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(('path', 'label', 'split'))
        for path in sorted((root / 'photos').rglob('*.jpg')):
            writer.writerow((path.relative_to(root), path.parent.name, path.parent.parent.name))
    return table


def measure(photos: Path, out: Path) -> dict[str, Any]:
    """Return seconds, and the memory that came on top, of listing the photos and of looking into them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = look_at_photos(photos, out)
    listed = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    look_into_photos(found.paths, out)
    decoded = time.perf_counter() - start - listed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return dict(
        photos=found.num_train + found.num_val,
        list_seconds=listed,
        list_mebibytes=memory / 1024,
        decode_seconds=decoded,
        mebibytes=peak / 1024,
    )


def main() -> None:
    """Make the tree, measure in a process of its own, and write the numbers."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tree(root, args.photos)
        source = write_table(root) if args.table else root / 'photos'
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            found = pool.apply(measure, (source, root / 'out'))
    print(', '.join(f'{name} {value:.4g}' for name, value in found.items()))
    kind = 'photos_table' if args.table else 'photos'
    path = args.out or common.RESULTS / f'{kind}_{found["photos"]}.json'
    path.write_text(json.dumps(dict(found, environment=environment()), indent=1) + '\n')


if __name__ == '__main__':
    main()
