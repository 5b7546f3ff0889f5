"""Load CUB-200-2011: photos of 200 species of North American birds."""

from __future__ import annotations

from pathlib import Path

from r2kd_mm.datasets.image_set import ImageSet, read_lines
from r2kd_mm.registry import DATASETS


@DATASETS.register_module()
class CUB200(ImageSet):
    """CUB-200-2011 (Wah et al., Caltech CNS-TR-2011-001) with its published split.

    A label is the number in ``image_class_labels.txt`` minus one. A name is the entry in ``classes.txt`` without its
    number. Samples and labels are the same as in mmpretrain's ``CUB``, which does not notice a missing image and only
    takes 200 classes. For the arguments and errors see :class:`~r2kd_mm.datasets.image_set.ImageSet`.

    Example:
        >>> dataset = CUB200('data/cub200', split='test')  # a miniature of 4 classes
        >>> len(dataset), len(dataset.metainfo['classes'])
        (8, 4)
    """

    key = 'cub200'
    required = ('images', 'images.txt', 'classes.txt', 'image_class_labels.txt', 'train_test_split.txt')

    def read_split(self, root: Path) -> tuple[list[str], list[dict]]:
        """See the base class; the splits are ``'train'`` and ``'test'``."""
        names, paths, class_ids, in_train = (
            dict(row[:2] for row in read_lines(root / f'{name}.txt', num_columns=2))
            for name in ('classes', 'images', 'image_class_labels', 'train_test_split')
        )
        if not paths.keys() == class_ids.keys() == in_train.keys():
            raise ValueError(
                'images.txt, image_class_labels.txt and train_test_split.txt must list the same images, got '
                f'{len(paths)}, {len(class_ids)} and {len(in_train)}'
            )
        unknown = set(class_ids.values()) - names.keys()
        if unknown:
            raise ValueError(f'image_class_labels.txt has class {min(unknown)}, which classes.txt does not name')
        flag = '1' if self.split == 'train' else '0'
        samples = [
            dict(img_path=str(root / 'images' / path), gt_label=int(class_ids[image]) - 1)
            for image, path in paths.items()
            if in_train[image] == flag
        ]
        return [names[number].partition('.')[2] for number in sorted(names, key=int)], samples
