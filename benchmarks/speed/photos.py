"""Measure how long `r2kd-mm distill` takes to list photos, and how much memory, on a tree of hard links.

python benchmarks/speed/photos.py --photos 100000

The tree is made of a few thousand small files with many links to each. So every training photo has copies, and all of
them are read in the search for duplicates: real photos of different bytes are read at their ends alone.
"""

from __future__ import annotations

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
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

from r2kd_mm.environment import environment
from r2kd_mm.photos.folder import look_at_photos

CLASSES = 1000
SOURCES = 2000  # different training files; a file system allows some 65,000 links to one
SIZES = (200, 20_000)  # bytes
VAL_SHARE = 0.04  # as in ImageNet


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--photos', type=common.positive, default=100_000, help='in the tree (default: 100000)')
    parser.add_argument('--out', type=Path, help='JSON file to write (default: one in results/)')
    return parser.parse_args()


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
            file.write_bytes(generator.randbytes(generator.randint(*SIZES)))
        for label in range(classes):
            (root / 'photos' / part / f'class_{label:04}').mkdir(parents=True)
        for index in range(count):
            os.link(files[index % len(files)], root / 'photos' / part / f'class_{index % classes:04}' / f'{index}.jpg')


def measure(root: Path) -> dict[str, Any]:
    """Return seconds, and the memory that came on top, of listing the tree."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    photos = look_at_photos(root / 'photos', root / 'out')
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return dict(photos=photos.num_train + photos.num_val, seconds=seconds, mebibytes=(peak - before) / 1024)


def main() -> None:
    """Make the tree, measure in a process of its own, and write the numbers."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder), args.photos)
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            found = pool.apply(measure, (Path(folder),))
    million = 1e6 / found['photos']
    found |= dict(seconds_a_million=found['seconds'] * million, mebibytes_a_million=found['mebibytes'] * million)
    print(', '.join(f'{name} {value:.4g}' for name, value in found.items()))
    path = args.out or common.RESULTS / f'photos_{found["photos"]}.json'
    path.write_text(json.dumps(dict(found, environment=environment()), indent=1) + '\n')


if __name__ == '__main__':
    main()
