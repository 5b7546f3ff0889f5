"""List published facts: accuracies of public teachers, and the classes, image counts and URLs of public data sets.

Top-1 accuracy is in percent on the test set (CIFAR-100) or the validation set (ImageNet). The CIFAR-100 numbers are
those that Tian et al. (arXiv 1910.10699) report for the public checkpoints of the zoo. Most later papers repeat them.
We know no published accuracies of public Tiny-ImageNet teachers.

A folder that holds only a part of a data set can state its own image counts, see :func:`expected_contents`.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

CRD = 'Tian et al., ICLR 2020, arXiv 1910.10699, Tables 1 and 2'
MMPRETRAIN = 'model zoo of mmpretrain 1.2.0'
CONTENTS_FILE = 'contents.json'


@dataclass(frozen=True)
class PublishedTeacher:
    """Published top-1 accuracy of a teacher in percent, with the number of evaluated images and the source.

    Example:
        >>> PublishedTeacher(72.34, images=10_000, source='CRD').accuracy
        72.34
    """

    accuracy: float
    images: int
    source: str


TEACHERS = {
    'cifar100/resnet56': PublishedTeacher(72.34, 10_000, CRD),
    'cifar100/resnet110': PublishedTeacher(74.31, 10_000, CRD),
    'cifar100/resnet32x4': PublishedTeacher(79.42, 10_000, CRD),
    'cifar100/resnet50': PublishedTeacher(79.34, 10_000, CRD),
    'cifar100/wrn_40_2': PublishedTeacher(75.61, 10_000, CRD),
    'cifar100/vgg13': PublishedTeacher(74.64, 10_000, CRD),
    'imagenet/resnet34': PublishedTeacher(73.62, 50_000, MMPRETRAIN),
    'imagenet/resnet50': PublishedTeacher(76.55, 50_000, MMPRETRAIN),
}


def published_teacher(name: str) -> PublishedTeacher:
    """Look up a teacher by ``'<data set>/<network>'``.

    >>> published_teacher('cifar100/resnet56').accuracy
    72.34

    Raises:
        ValueError: No number of this teacher is known.
    """
    if name in TEACHERS:
        return TEACHERS[name]
    close = difflib.get_close_matches(name, TEACHERS)
    hint = f'did you mean {" or ".join(map(repr, close))}?' if close else f'known: {", ".join(TEACHERS)}'
    raise ValueError(f'no published accuracy of {name!r} is known; {hint}')


@dataclass(frozen=True)
class Contents:
    """The size of a data set.

    Attributes:
        classes: Number of classes.
        images: Number of images of each split, training first.

    Example:
        >>> print(Contents(4, dict(train=12, test=8)))
        4 classes, 12 train images and 8 test images
    """

    classes: int
    images: dict[str, int]

    def __str__(self) -> str:
        splits = ' and '.join(f'{count} {split} images' for split, count in self.images.items())
        return f'{self.classes} classes, {splits}'


@dataclass(frozen=True)
class Publication:
    """A public data set.

    Attributes:
        title: Its name, as its authors write it.
        url: Page that offers it.
        archives: Names of the files that are needed, as they are published.
        contents: Classes and images with public labels.

    Example:
        >>> PUBLISHED['cub200'].contents.classes
        200
    """

    title: str
    url: str
    archives: tuple[str, ...]
    contents: Contents


# The key is the one name of a data set: configs/_base_/datasets/<key>.py, data/<key>, prepare_<key>.py, and
# make_mini.py <key>.
PUBLISHED: dict[str, Publication] = {
    'cifar100': Publication(
        'CIFAR-100',
        'https://www.cs.toronto.edu/~kriz/cifar.html',
        ('cifar-100-python.tar.gz',),
        Contents(100, dict(train=50_000, test=10_000)),
    ),
    'cub200': Publication(
        'CUB-200-2011',
        'https://www.vision.caltech.edu/datasets/cub_200_2011',
        ('CUB_200_2011.tgz',),
        Contents(200, dict(train=5_994, test=5_794)),
    ),
    'imagenet': Publication(
        'ImageNet (ILSVRC2012)',
        'https://image-net.org/challenges/LSVRC/2012',
        ('ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar', 'ILSVRC2012_devkit_t12.tar.gz'),
        Contents(1000, dict(train=1_281_167, val=50_000)),
    ),
    'mit67': Publication(
        'MIT Indoor 67',
        'https://web.mit.edu/torralba/www/indoor.html',
        ('indoorCVPR_09.tar', 'TrainImages.txt', 'TestImages.txt'),
        Contents(67, dict(train=67 * 80, test=67 * 20)),  # of the 15620 images, those in the published lists
    ),
    'stanford40': Publication(
        'Stanford 40 Actions',
        'http://vision.stanford.edu/Datasets/40actions.html',
        ('Stanford40_JPEGImages.zip', 'Stanford40_ImageSplits.zip'),
        Contents(40, dict(train=40 * 100, test=5_532)),
    ),
    'stanford_dogs': Publication(
        'Stanford Dogs',
        'http://vision.stanford.edu/aditya86/ImageNetDogs',
        ('images.tar', 'lists.tar'),
        Contents(120, dict(train=120 * 100, test=8_580)),
    ),
    'tiny_imagenet': Publication(
        'Tiny-ImageNet',
        'http://cs231n.stanford.edu/tiny-imagenet-200.zip',
        ('tiny-imagenet-200.zip',),
        Contents(200, dict(train=200 * 500, val=200 * 50)),  # the labels of its test images are not public
    ),
}


def expected_contents(key: str, data_root: Path) -> Contents:
    """Return the contents that the folder states in its ``contents.json``, or else the published ones.

    Args:
        key: Name of the data set in :data:`PUBLISHED`.
        data_root: Folder of the data set.

    Raises:
        ValueError: ``contents.json`` cannot be read.

    Example:
        >>> print(expected_contents('cub200', Path('data/cub200')))  # a miniature
        4 classes, 12 train images and 8 test images
    """
    published = PUBLISHED[key].contents
    path = data_root / CONTENTS_FILE
    if not path.is_file():
        return published
    try:
        stated = json.loads(path.read_text())
        return Contents(int(stated['classes']), {split: int(stated['images'][split]) for split in published.images})
    except (KeyError, TypeError, ValueError) as error:
        example = json.dumps(asdict(published))
        raise ValueError(f'{CONTENTS_FILE} must read like {example}, got {path.read_text()[:200]!r}') from error


def write_contents(contents: Contents, data_root: Path) -> None:
    """Let the folder of a miniature or of a subset state its own numbers; :func:`expected_contents` reads them.

    Example:
        >>> Path('small_set').mkdir()
        >>> write_contents(Contents(2, dict(train=6, test=4)), Path('small_set'))
        >>> print(expected_contents('cub200', Path('small_set')))
        2 classes, 6 train images and 4 test images
    """
    (data_root / CONTENTS_FILE).write_text(json.dumps(asdict(contents)) + '\n')


def check_contents(expected: Contents, split: str, classes: int, images: int) -> None:
    """Compare the numbers that were found in a split with those expected.

    Raises:
        ValueError: They differ.

    Example:
        >>> check_contents(Contents(4, dict(train=12, test=8)), 'train', classes=4, images=11)
        Traceback (most recent call last):
        ...
        ValueError: found 4 classes and 11 train images, expected 4 and 12 ...
    """
    if (classes, images) != (expected.classes, expected.images[split]):
        raise ValueError(
            f'found {classes} classes and {images} {split} images, expected {expected.classes} and '
            f'{expected.images[split]} (a subset states its own numbers in {CONTENTS_FILE})'
        )
