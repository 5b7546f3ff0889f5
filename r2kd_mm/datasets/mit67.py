"""Load MIT Indoor 67: photos of 67 kinds of indoor scenes."""

from __future__ import annotations

from pathlib import Path

from r2kd_mm.datasets.image_set import ImageSet
from r2kd_mm.registry import DATASETS


@DATASETS.register_module()
class MIT67(ImageSet):
    """MIT Indoor 67 (Quattoni and Torralba, CVPR 2009) in its published split: 80 training and 20 test images a class.

    The lists hold paths ``<class>/<image>`` below ``Images/``, but no labels. A label is the index of the class in
    alphabetical order, as on the authors' page. For the arguments and errors see
    :class:`~r2kd_mm.datasets.image_set.ImageSet`.

    Example:
        >>> dataset = MIT67('data/mit67', split='test')  # a miniature of 4 classes
        >>> len(dataset), len(dataset.metainfo['classes'])
        (8, 4)
    """

    key = 'mit67'
    required = ('Images', 'TrainImages.txt', 'TestImages.txt')

    def read_split(self, root: Path) -> tuple[list[str], list[dict]]:
        """See the base class; the splits are ``'train'`` and ``'test'``."""
        lists = {split: _read_list(root / f'{split.capitalize()}Images.txt') for split in ('train', 'test')}
        # of both lists, so that both splits have the same labels
        classes = sorted({name.split('/')[0] for names in lists.values() for name in names})
        labels = {name: label for label, name in enumerate(classes)}
        samples = [
            dict(img_path=str(root / 'Images' / name), gt_label=labels[name.split('/')[0]])
            for name in lists[self.split]
        ]
        return classes, samples


def _read_list(path: Path) -> list[str]:
    """Read lines ``class/image`` of a list file; file names may contain spaces."""
    names = [line.strip() for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    for name in names:
        if name.count('/') != 1:
            raise ValueError(f"the lines of {path.name} must read 'class/image.jpg', got {name!r}")
    return names
