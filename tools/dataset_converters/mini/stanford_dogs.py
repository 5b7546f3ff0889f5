"""Write a miniature of Stanford Dogs: images in class folders, and lists in MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mini.base import Format, Miniature, save_matlab, write_archive


def write(folder: Path, mini: Miniature) -> None:
    """Write images, and ``train_list.mat``, ``test_list.mat`` and ``file_list.mat`` with names and labels from 1."""
    lists: dict[str, list[tuple[str, int]]] = {'train': [], 'test': []}
    for label in range(mini.classes):
        wnid = f'n{label:08d}'
        for index, split in enumerate(['train'] * mini.train + ['test'] * mini.val):
            name = f'{wnid}-Breed_{label}/{wnid}_{index}.jpg'
            mini.save_image(label, folder / 'Images' / name)
            lists[split].append((name, label + 1))
    lists['file'] = [*lists['train'], *lists['test']]
    for split, rows in lists.items():
        names = np.array([[name] for name, _ in rows], dtype=object)
        without_suffix = np.array([[name.removesuffix('.jpg')] for name, _ in rows], dtype=object)
        labels = np.array([[float(label)] for _, label in rows])
        content = dict(file_list=names, annotation_list=without_suffix, labels=labels)
        save_matlab(folder / f'{split}_list.mat', content)


def pack(folder: Path, dst: Path) -> None:
    """Two tar files, for the images and for the lists."""
    write_archive(dst / 'images.tar', folder, 'Images')
    write_archive(dst / 'lists.tar', folder, 'file_list.mat', 'test_list.mat', 'train_list.mat')


FORMAT = Format(write, pack)
