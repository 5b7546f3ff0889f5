"""Write a miniature of Tiny-ImageNet: validation images in one folder, as published, or in class folders."""

from __future__ import annotations

from pathlib import Path

from mini.base import Format, Miniature, write_archive

SIZE = 64
BOX = '0\t0\t63\t63'  # columns of the annotations: left, top, right, bottom


def write(folder: Path, mini: Miniature) -> None:
    """Write images and lists; ``wnids.txt`` is not sorted, as published. ``'folders'`` has ``val/<wnid>/images/``."""
    wnids = [f'n{label:08d}' for label in range(mini.classes)]
    for label, wnid in enumerate(wnids):
        names = [f'{wnid}_{index}.JPEG' for index in range(mini.train)]
        for name in names:
            mini.save_image(label, folder / 'train' / wnid / 'images' / name, longest_side=1)
        boxes = folder / 'train' / wnid / f'{wnid}_boxes.txt'
        boxes.write_text(''.join(f'{name}\t{BOX}\n' for name in names))
    annotations = []
    for index, label in enumerate(mini.shuffled_labels(mini.val)):
        name = f'val_{index}.JPEG'
        subfolder = f'{wnids[label]}/images' if mini.layout == 'folders' else 'images'
        mini.save_image(label, folder / 'val' / subfolder / name, longest_side=1)
        annotations.append(f'{name}\t{wnids[label]}\t{BOX}\n')
    (folder / 'val' / 'val_annotations.txt').write_text(''.join(annotations))
    mini.save_image(0, folder / 'test' / 'images' / 'test_0.JPEG', longest_side=1)  # unlabelled
    (folder / 'wnids.txt').write_text('\n'.join(wnids[::-1]))
    (folder / 'words.txt').write_text(''.join(f'{wnid}\tobject {wnid}\n' for wnid in wnids))


def pack(folder: Path, dst: Path) -> None:
    """One zip file."""
    write_archive(dst / 'tiny-imagenet-200.zip', folder, prefix='tiny-imagenet-200/')


FORMAT = Format(write, pack, splits=('train', 'val'), layouts=('published', 'folders'), size=SIZE)
