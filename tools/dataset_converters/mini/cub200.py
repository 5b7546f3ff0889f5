"""Write a miniature of CUB-200-2011: images in class folders, and text files that number the images from 1."""

from __future__ import annotations

from pathlib import Path

from mini.base import Format, Miniature, write_archive


def write(folder: Path, mini: Miniature) -> None:
    """Write images, classes, labels, split and boxes; a class has training and test images in random order."""
    files: dict[str, list[str]] = {
        name: [] for name in ('images', 'classes', 'image_class_labels', 'train_test_split', 'bounding_boxes')
    }
    number = 0
    for label in range(mini.classes):
        name = f'{label + 1:03d}.Bird_{label + 1}'
        files['classes'].append(f'{label + 1} {name}\n')
        for in_train in mini.rng.permutation([1] * mini.train + [0] * mini.val):
            number += 1
            path = f'{name}/Bird_{label + 1}_{number:04d}_{7 * number}.jpg'
            mini.save_image(label, folder / 'images' / path)
            files['images'].append(f'{number} {path}\n')
            files['image_class_labels'].append(f'{number} {label + 1}\n')
            files['train_test_split'].append(f'{number} {in_train}\n')
            files['bounding_boxes'].append(f'{number} 0.0 0.0 {mini.size}.0 {mini.size}.0\n')
    for name, lines in files.items():
        (folder / f'{name}.txt').write_text(''.join(lines))


def pack(folder: Path, dst: Path) -> None:
    """One compressed tar file."""
    write_archive(dst / 'CUB_200_2011.tgz', folder, prefix='CUB_200_2011/')


FORMAT = Format(write, pack)
