"""Write the images of Glyph-100 to disk, so that a run need not draw them at its start; or write sample pictures.

    python tools/dataset_converters/make_glyph100.py data/glyph100
    python tools/dataset_converters/make_glyph100.py docs/images --pictures

The sample pictures are those of docs/glyph100.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from r2kd_mm.engine import clear_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='cache_dir of the data set, or where the pictures go')
    parser.add_argument('--splits', nargs='+', metavar='SPLIT', help='of train, val, test and shifted (default: all)')
    parser.add_argument('--size', type=int, help='images of each split (default: those of docs/glyph100.md)')
    parser.add_argument('--seed', type=int, default=0, help='of the images (default %(default)s)')
    parser.add_argument('--difficulty', type=float, help='0 to 1 (default: that of the configs, 0.5)')
    parser.add_argument('--pictures', action='store_true', help='draw the pictures of the data card instead')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw what is not there yet."""
    args = parse_args(argv)
    with clear_errors():
        if args.pictures:
            from r2kd_mm.datasets.glyphs.pictures import write_pictures

            write_pictures(args.folder)
            return
        from r2kd_mm.datasets import Glyph100
        from r2kd_mm.datasets.glyphs import SPLITS

        options = {} if args.difficulty is None else dict(difficulty=args.difficulty)
        for split in args.splits or SPLITS:
            dataset = Glyph100(split, size=args.size, seed=args.seed, cache_dir=str(args.folder), **options)
            print(f'\n{dataset.cache_file}: {len(dataset)} images')


if __name__ == '__main__':
    main()
