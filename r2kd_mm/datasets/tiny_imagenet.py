"""Load Tiny-ImageNet: 200 classes at 64 x 64 pixels, each with 500 training images and 50 validation images."""

from __future__ import annotations

import os
from pathlib import Path

from r2kd_mm.datasets.image_set import ImageSet, read_lines
from r2kd_mm.datasets.loading import EXTENSIONS
from r2kd_mm.registry import DATASETS


@DATASETS.register_module()
class TinyImageNet(ImageSet):
    """Tiny-ImageNet (Stanford CS231n), in either of its two public layouts.

    The published layout has ``train/<wnid>/images/*.JPEG`` and flat ``val/images/*.JPEG`` with
    ``val/val_annotations.txt``. Many scripts re-arrange it to ``val/<wnid>/*.JPEG`` or ``val/<wnid>/images/*.JPEG``;
    a remaining ``val/images`` is then ignored.

    A label is the index of the WordNet id in the *sorted* list of the training folders, as in torchvision's
    ``ImageFolder`` and in the public teachers of this data set. The order of ``wnids.txt`` differs. For the arguments
    and errors see :class:`~r2kd_mm.datasets.image_set.ImageSet`.

    Example:
        >>> dataset = TinyImageNet('data/tiny_imagenet', split='val')  # a miniature of 4 classes
        >>> len(dataset), len(dataset.metainfo['classes'])
        (8, 4)
    """

    key = 'tiny_imagenet'
    required = ('train', 'val')

    def read_split(self, root: Path) -> tuple[list[str], list[dict]]:
        """See the base class; the splits are ``'train'`` and ``'val'``."""
        classes = _folders(root / 'train')
        labels = {wnid: label for label, wnid in enumerate(classes)}
        folder = root / self.split
        class_folders = [name for name in _folders(folder) if name != 'images']
        if class_folders:
            found = [(path, wnid) for wnid in class_folders for path in _images(folder / wnid)]
        elif (folder / 'val_annotations.txt').is_file():
            rows = read_lines(folder / 'val_annotations.txt', num_columns=2)
            found = [(os.path.join(folder, 'images', name), wnid) for name, wnid, *_ in rows]
        else:
            raise FileNotFoundError(
                f'{self.split} has no class folders' + ', nor val_annotations.txt' * (self.split == 'val')
            )
        unknown = sorted({wnid for _, wnid in found} - labels.keys())
        if unknown:
            raise ValueError(f'{len(unknown)} classes of {self.split} have no folder in train, such as {unknown[0]!r}')
        return classes, [dict(img_path=path, gt_label=labels[wnid]) for path, wnid in found]


def _folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in ``folder``."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))


def _images(folder: Path) -> list[str]:
    """Return the sorted images of a class, from its folder ``images`` if it has one."""
    inner = folder / 'images'
    folder = inner if inner.is_dir() else folder
    # text, not Path: there are 100,000 of them
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.lower().endswith(EXTENSIONS)]
