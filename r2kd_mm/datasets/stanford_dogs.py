"""Load Stanford Dogs: photos of 120 dog breeds, taken from ImageNet."""

from __future__ import annotations

from pathlib import Path

from r2kd_mm.datasets.image_set import ImageSet
from r2kd_mm.registry import DATASETS


@DATASETS.register_module()
class StanfordDogs(ImageSet):
    """Stanford Dogs (Khosla et al., FGVC workshop 2011) with its published split of 100 training images a class.

    A label is the number in ``train_list.mat`` or ``test_list.mat`` minus one. A class has the name of its folder in
    ``Images``, such as ``'n02085620-Chihuahua'``. The images come from ImageNet's training set, so a teacher that was
    pretrained on ImageNet has seen the test images. For the arguments and errors see
    :class:`~r2kd_mm.datasets.image_set.ImageSet`; the lists need scipy (``ImportError``).

    Example:
        >>> dataset = StanfordDogs('data/stanford_dogs', split='test')  # a miniature of 4 classes
        >>> len(dataset), len(dataset.metainfo['classes'])
        (8, 4)
    """

    key = 'stanford_dogs'
    required = ('Images', 'train_list.mat', 'test_list.mat')

    def read_split(self, root: Path) -> tuple[list[str], list[dict]]:
        """See the base class; the splits are ``'train'`` and ``'test'``."""
        lists = {split: _read_list(root / f'{split}_list.mat') for split in ('train', 'test')}
        # of both lists, so that both splits have the same classes
        named = {(label, name.split('/')[0]) for rows in lists.values() for name, label in rows}
        classes = [folder for _, folder in sorted(named)]
        if [label for label, _ in sorted(named)] != list(range(1, len(set(classes)) + 1)):
            raise ValueError('each folder of images must have one label in both lists, from 1 to the number of folders')
        return classes, [
            dict(img_path=str(root / 'Images' / name), gt_label=label - 1) for name, label in lists[self.split]
        ]


def _read_list(path: Path) -> list[tuple[str, int]]:
    """Read the images, as ``folder/image.jpg``, and labels from 1 of a MATLAB file."""
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise ImportError(
            'the lists of Stanford Dogs are MATLAB files, which scipy reads: pip install scipy'
        ) from error
    try:
        content = loadmat(path, variable_names=['file_list', 'labels'])
        names, labels = content['file_list'].ravel(), content['labels'].ravel()
    except (KeyError, MatReadError, NotImplementedError, OSError, TypeError, ValueError) as error:
        raise ValueError(f'{path.name} is not a MATLAB file with file_list and labels ({error})') from error
    return [(str(name.item()), int(label)) for name, label in zip(names, labels)]
