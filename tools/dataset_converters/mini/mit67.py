"""Write a miniature of MIT Indoor 67: images in class folders, and two lists that leave some images out."""

from __future__ import annotations

import shutil
from pathlib import Path

from mini.base import Format, Miniature, write_archive


def write(folder: Path, mini: Miniature) -> None:
    """Write the images and two lists in random order; one image of each class is in neither list."""
    lists: dict[str, list[str]] = {'Train': [], 'Test': []}
    for label in range(mini.classes):
        for index in range(mini.train + mini.val + 1):
            name = f'room_{label:02d}/view_{index}.jpg'
            mini.save_image(label, folder / 'Images' / name)
            if index < mini.train + mini.val:
                lists['Train' if index < mini.train else 'Test'].append(name)
    for split, names in lists.items():
        order = mini.rng.permutation(len(names))
        (folder / f'{split}Images.txt').write_text('\n'.join(names[index] for index in order))


def pack(folder: Path, dst: Path) -> None:
    """One tar file and the two lists, which are published next to it."""
    write_archive(dst / 'indoorCVPR_09.tar', folder, 'Images')
    for split in ('Train', 'Test'):
        shutil.copy(folder / f'{split}Images.txt', dst)


FORMAT = Format(write, pack)
