"""Load Stanford 40 Actions: photos of people, with 40 classes such as riding a horse."""

from __future__ import annotations

from pathlib import Path

from r2kd_mm.datasets.image_set import ImageSet, read_lines
from r2kd_mm.registry import DATASETS


@DATASETS.register_module()
class Stanford40(ImageSet):
    """Stanford 40 Actions (Yao et al., ICCV 2011) with its published split of 100 training images a class.

    A label is the row of the action in ``ImageSplits/actions.txt``, counted from 0 below the heading. For the
    arguments and errors see :class:`~r2kd_mm.datasets.image_set.ImageSet`.

    Example:
        >>> dataset = Stanford40('data/stanford40', split='test')  # a miniature of 4 classes
        >>> len(dataset), len(dataset.metainfo['classes'])
        (8, 4)
    """

    key = 'stanford40'
    required = ('JPEGImages', 'ImageSplits', 'ImageSplits/actions.txt')

    def read_split(self, root: Path) -> tuple[list[str], list[dict]]:
        """See the base class; the splits are ``'train'`` and ``'test'``."""
        splits = root / 'ImageSplits'
        _heading, *rows = read_lines(splits / 'actions.txt', num_columns=1) or [[]]
        classes = [action for action, *_ in rows]
        samples = []
        for label, action in enumerate(classes):
            path = splits / f'{action}_{self.split}.txt'
            if not path.is_file():
                raise FileNotFoundError(f'ImageSplits/{path.name}, the list of an action in actions.txt, is missing')
            names = [name for name, *_ in read_lines(path, num_columns=1)]
            samples += [dict(img_path=str(root / 'JPEGImages' / name), gt_label=label) for name in names]
        return classes, samples
