"""Write a miniature of ImageNet: ``<split>/<wnid>/*.JPEG``, or a flat validation folder with ``meta/val.txt``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from mini.base import Format, Miniature, save_matlab, write_archive

VAL_NAME = 'ILSVRC2012_val_{:08d}.JPEG'


def write(folder: Path, mini: Miniature) -> None:
    """Write the images; class ``i`` has the WordNet id ``n0000000i``.

    The layout ``'folders'`` has class folders in both splits; ``'annotations'`` has, as the validation archive unpacks,
    images in ``val/`` and their labels in ``meta/val.txt``.
    """
    for split, count in (('train', mini.train), ('val', mini.val)):
        flat = mini.layout == 'annotations' and split == 'val'
        lines = []
        for label in range(mini.classes):
            wnid = f'n{label:08d}'
            for index in range(count):
                name = VAL_NAME.format(label * count + index) if flat else f'{wnid}/{wnid}_{index}.JPEG'
                mini.save_image(label, folder / split / name)
                lines.append(f'{name} {label}\n')
        if flat:
            (folder / 'meta').mkdir()
            (folder / 'meta' / 'val.txt').write_text(''.join(lines))


def pack(folder: Path, dst: Path) -> None:
    """A tar of one tar a class; the validation images flat, with numbers from 1; their classes in the development kit.

    As in the real kit, the numbers of the classes do not follow the order of their WordNet ids.
    """
    wnids = sorted(path.name for path in (folder / 'train').iterdir())
    ids = {wnid: len(wnids) - label for label, wnid in enumerate(wnids)}
    annotations = folder / 'meta' / 'val.txt'
    if annotations.is_file():
        rows = [line.split() for line in annotations.read_text().splitlines()]
        images = [(folder / 'val' / name, wnids[int(label)]) for name, label in rows]
    else:
        images = [(path, path.parent.name) for path in sorted(folder.glob('val/*/*'))]
    with tempfile.TemporaryDirectory() as scratch:
        train, val, kit = (Path(scratch, name) for name in ('train', 'val', 'kit'))
        for part in (train, val, kit / 'data'):
            part.mkdir(parents=True)
        for wnid in wnids:
            write_archive(train / f'{wnid}.tar', folder / 'train' / wnid)
        for number, (path, _) in enumerate(images, start=1):
            (val / VAL_NAME.format(number)).write_bytes(path.read_bytes())
        synsets = np.array(
            [[(float(ids[wnid]), wnid, f'object {wnid}')] for wnid in sorted(wnids, key=ids.get)],
            dtype=[('ILSVRC2012_ID', object), ('WNID', object), ('words', object)],
        )
        save_matlab(kit / 'data' / 'meta.mat', dict(synsets=synsets))
        labels = [f'{ids[wnid]}\n' for _, wnid in images]
        (kit / 'data' / 'ILSVRC2012_validation_ground_truth.txt').write_text(''.join(labels))
        write_archive(dst / 'ILSVRC2012_img_train.tar', train)
        write_archive(dst / 'ILSVRC2012_img_val.tar', val)
        write_archive(dst / 'ILSVRC2012_devkit_t12.tar.gz', kit, prefix='ILSVRC2012_devkit_t12/')


FORMAT = Format(write, pack, splits=('train', 'val'), layouts=('folders', 'annotations'))
