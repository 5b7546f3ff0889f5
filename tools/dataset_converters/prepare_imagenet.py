"""Unpack, arrange and check ImageNet, from a folder that holds the archives of both splits and the development kit.

    python tools/dataset_converters/prepare_imagenet.py FOLDER_OF_THE_DOWNLOADS data/imagenet

Training images go into class folders. Validation images stay flat and get ``meta/val.txt``, with the labels that the
kit gives; :class:`r2kd_mm.datasets.ImageFolder` reads both. A folder that is unpacked already needs no preparation.
"""

import re
from pathlib import Path, PurePosixPath

from preparation import Recipe, main

TRAIN_NAME = re.compile(r'(n\d{8})_\d+\.JPEG')
VAL_NAME = re.compile(r'ILSVRC2012_val_\d{8}\.JPEG')
KIT = ('meta.mat', 'ILSVRC2012_validation_ground_truth.txt')


def place(path: PurePosixPath) -> PurePosixPath | None:
    """Return where a file goes: an image to ``train/<wnid>/`` or ``val/``, two files of the kit to ``meta/``."""
    train = TRAIN_NAME.fullmatch(path.name)
    if train:
        return PurePosixPath('train', train[1], path.name)
    if VAL_NAME.fullmatch(path.name):
        return PurePosixPath('val', path.name)
    return PurePosixPath('meta', path.name) if path.name in KIT else None


def write_annotations(folder: Path) -> None:
    """Write ``meta/val.txt``: the kit numbers the classes its own way, networks by the sorted WordNet ids.

    Raises:
        FileNotFoundError: A part of the data set is missing.
        ValueError: The kit knows other classes or another number of images.
    """
    missing = [name for name in ('train', 'val', *(f'meta/{name}' for name in KIT)) if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f'{", ".join(missing)} not there')
    import numpy as np
    from scipy.io import loadmat

    synsets = np.atleast_1d(loadmat(folder / 'meta' / KIT[0], squeeze_me=True)['synsets'])
    wnid_of = {int(synset['ILSVRC2012_ID']): str(synset['WNID']) for synset in synsets}
    label_of = {path.name: label for label, path in enumerate(sorted((folder / 'train').iterdir()))}
    ids = [int(line) for line in (folder / 'meta' / KIT[1]).read_text().split()]
    names = sorted(path.name for path in (folder / 'val').iterdir())
    if len(ids) != len(names):
        raise ValueError(f'found {len(names)} validation images, but the kit labels {len(ids)}')
    unknown = {wnid_of.get(number, f'class {number}') for number in ids} - label_of.keys()
    if unknown:
        raise ValueError(f'the training images lack {len(unknown)} classes of the kit, such as {min(unknown)}')
    lines = [f'{name} {label_of[wnid_of[number]]}\n' for name, number in zip(names, ids)]
    (folder / 'meta' / 'val.txt').write_text(''.join(lines))


def check(folder: Path) -> None:
    """Count classes and images; see :attr:`preparation.Recipe.check`."""
    from r2kd_mm.datasets import ImageFolder
    from r2kd_mm.published import check_contents, expected_contents

    for split in ('train', 'val'):
        dataset = ImageFolder(str(folder), split)
        expected = expected_contents('imagenet', folder)
        check_contents(expected, split, len(dataset.metainfo['classes']), len(dataset))


def make_recipe() -> Recipe:
    """Return the instructions for this data set; see :class:`preparation.Recipe`."""
    return Recipe('imagenet', parts=(), check=check, place=place, finish=write_annotations)


if __name__ == '__main__':
    main('imagenet', make_recipe)
