"""Read images in ImageNet's folder layouts, with any number of classes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset
from mmpretrain.datasets.custom import find_folders, get_samples

from r2kd_mm.datasets.loading import EXTENSIONS
from r2kd_mm.registry import DATASETS

LAYOUT = (
    "expected <data_root>/<split>/<class>/*.JPEG, or images in <data_root>/<split>/ with lines 'name.JPEG label' "
    'in <data_root>/meta/<split>.txt; set data_root of the dataset to that folder '
    '(tools/dataset_converters/make_mini.py writes a small example)'
)


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """One split of an image folder, in either of the two layouts that mmpretrain's ``ImageNet`` reads.

    With class folders, ``<data_root>/<split>/<class>/*.JPEG``, a label is the index of the class in the sorted list of
    the *training* folders. So a class that is missing in the validation folder shifts no label. With an annotation
    file, ``<data_root>/meta/<split>.txt``, the file states the labels, and a class has the name of its folder, or the
    name in ``<data_root>/meta/classes.txt``, which has one name a line. The classes are counted, while mmpretrain
    assumes 1000, so that any image set in this layout can be used.

    In a run of several processes rank 0 lists the folder and sends the list to the others. So ImageNet's 1.28 million
    names are listed once, and all ranks have the same list. The data-loading workers of a process share
    the list in memory.

    Args:
        data_root: Folder that holds the splits.
        split: Name of the split's folder, such as ``'train'`` or ``'val'``.
        pipeline: Transforms of a sample.
        test_mode: If true, a pipeline that returns ``None`` is an error; if false, another image is drawn at random.
        indices: Use the first ``indices`` samples, or the listed ones; ``None`` for all.
        lazy_init: If true, list the folder at first use instead of in the constructor, and in each process.

    Raises:
        FileNotFoundError: The folder is missing, on this machine or on rank 0's, or an annotated image is missing.
        ValueError: There is no image; a class has no image, unless its validation folder is empty; a class is not in
            the training split; or a line has no label.

    Example:
        >>> dataset = ImageFolder('data/imagenet', split='train')  # a miniature of 4 classes
        >>> len(dataset), dataset.metainfo['classes'][0]
        (12, 'n00000000')
    """

    _metainfo: dict[str, Any]  # these three are MMEngine's, which tells mypy nothing
    data_bytes: np.ndarray
    data_address: np.ndarray

    def __init__(
        self,
        data_root: str,
        split: str,
        pipeline: Sequence = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
        lazy_init: bool = False,
    ) -> None:
        self.split = split
        self._built_by_all = not lazy_init  # the first use of a lazy one may be that of a single rank, or of a worker
        super().__init__(
            ann_file='',
            data_root=data_root,
            data_prefix=split,
            pipeline=pipeline,
            test_mode=test_mode,
            indices=indices,
            lazy_init=lazy_init,
        )

    def full_init(self) -> None:
        """Read the folder, or receive its list from rank 0."""
        if self._fully_initialized:
            return
        if self._built_by_all and get_world_size() > 1:
            self._read_once()
        else:
            super().full_init()

    def _read_once(self) -> None:
        """Let rank 0 read the folder; every rank then has the list, or the error."""
        sent: list[Any] = [None] * 4
        if is_main_process():
            try:
                super().full_init()
                sent = [None, self._metainfo, self.data_bytes, self.data_address]
            except (OSError, ValueError) as error:
                sent[0] = error
            except Exception as error:  # it may not be picklable; without a message the other ranks would wait
                sent[0] = RuntimeError(f'rank 0 cannot list {self.img_prefix!r}: {error!r}')
        broadcast_object_list(sent)
        failure, *received = sent
        if failure is not None:
            raise failure
        self._metainfo, self.data_bytes, self.data_address = received
        self._existing_folder()  # on this machine too
        self._fully_initialized = True

    def _existing_folder(self) -> Path:
        folder = Path(self.img_prefix)
        if not folder.is_dir():
            raise FileNotFoundError(f'there is no data folder {str(folder)!r}: {LAYOUT}')
        return folder

    def load_data_list(self) -> list[dict]:
        """List the images and labels of the split, and name its classes in ``metainfo``."""
        folder = self._existing_folder()
        annotations = Path(self.data_root, 'meta', f'{self.split}.txt')
        samples = _read_annotations(annotations, folder) if annotations.is_file() else self._find_samples(folder)
        if not samples:
            raise ValueError(f'there is no image in the data folder {str(folder)!r}: {LAYOUT}')

        classes = _class_folders(Path(self.data_root, 'train')) or _class_folders(folder)
        of_training = Path(self.data_root, 'meta', 'train.txt')
        labelled = [] if self.split == 'train' or not of_training.is_file() else _read_lines(of_training)
        if annotations.is_file():
            names = Path(self.data_root, 'meta', 'classes.txt')
            if names.is_file():
                classes = _named_classes(names, labelled + samples)
            else:
                classes = _annotated_classes(labelled + samples, classes)
        self._metainfo['classes'] = tuple(classes)
        return [dict(img_path=str(folder / name), gt_label=label) for name, label in samples]

    def _find_samples(self, folder: Path) -> list[tuple[str, int]]:
        """Find the images in class folders, with the labels of the training folders if there are any."""
        found = _class_folders(folder)
        classes = _class_folders(Path(self.data_root, 'train')) or found
        unknown = sorted(set(found) - set(classes))
        if unknown:
            raise ValueError(
                f'{str(folder)!r} has {len(unknown)} class folders that the training split lacks, such as '
                f'{unknown[0]!r}: both splits must use the same names, see {self.data_root!r}'
            )
        labels = {name: classes.index(name) for name in found}
        passed_over: Counter[str] = Counter()

        def is_image(name: str) -> bool:
            is_known = name.lower().endswith(EXTENSIONS)
            if not is_known:
                passed_over[Path(name).suffix or name] += 1
            return is_known

        samples, without = get_samples(str(folder), labels, is_image)
        for name in sorted(without) if samples else ():
            files = [path for path in (folder / name).rglob('[!.]*') if path.is_file()]
            if files or self.split == 'train':
                endings = ', '.join(sorted({path.suffix or path.name for path in files}))
                raise ValueError(
                    f'there is no image in the class folder {str(folder / name)!r}, '
                    f'{f"only files that end in {endings}" if files else "it is empty"}: expected files that end in '
                    f'{", ".join(EXTENSIONS)}; convert or add them, or take the class out of every split'
                )
        if passed_over:
            print_log(
                f'{passed_over.total()} files in {str(folder)!r} are passed over, since they do not end as images '
                f'({", ".join(EXTENSIONS)}): {", ".join(f"{count} {ending}" for ending, count in passed_over.items())}',
                'current',
                level=logging.WARNING,
            )
        return samples


def _class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in ``folder`` but for hidden ones; empty if it is missing."""
    names = find_folders(str(folder))[0] if folder.is_dir() else []
    return [name for name in names if not name.startswith('.')]


def _named_classes(path: Path, samples: Sequence[tuple[str, int]]) -> list[str]:
    """Read the names of the labels, one a line."""
    names = _lines(path)
    largest = max(label for _, label in samples)
    if len(names) <= largest or len({*names}) < len(names):
        raise ValueError(
            f'{str(path)!r} must name the labels 0 to {largest}, each by another name in a line of its own, got '
            f'{len({*names})} different names in {len(names)} lines'
        )
    return names


def _annotated_classes(samples: Sequence[tuple[str, int]], folders: Sequence[str]) -> list[str]:
    """Name the labels by their folders in the annotations, or else by numbers.

    Args:
        samples: Paths below a split, and labels.
        folders: Sorted class folders, which name the labels where the paths have none.
    """
    numbers = [str(label) for label in range(1 + max(label for _, label in samples))]
    pairs = {(label, name.split('/')[0]) for name, label in samples if '/' in name}
    names = dict(pairs)
    if len(names) == len(pairs) == len(set(names.values())) == len(numbers):  # one folder for each label
        return [names[label] for label in range(len(numbers))]
    contradicted = any(name in folders and folders.index(name) != label for label, name in pairs)
    return numbers if contradicted or len(numbers) > len(folders) else list(folders)


def _read_annotations(path: Path, folder: Path) -> list[tuple[str, int]]:
    """Read an annotation file, and look for its first image to detect a wrong folder at once."""
    samples = _read_lines(path)
    if samples and not (folder / samples[0][0]).is_file():
        raise FileNotFoundError(f'{str(path)!r} names {samples[0][0]!r}, which is not in {str(folder)!r}: {LAYOUT}')
    return samples


def _lines(path: Path) -> list[str]:
    """Return the lines of a file, with or without the byte order mark of Windows."""
    with path.open(encoding='utf-8-sig') as file:  # str.splitlines would also split a name at U+2028
        return [line.removesuffix('\n') for line in file]


def _read_lines(path: Path) -> list[tuple[str, int]]:
    """Read lines ``name label`` of an annotation file, with or without the byte order mark of Windows."""
    samples = []
    for number, line in enumerate(_lines(path), start=1):
        name, _, label = line.strip().rpartition(' ')
        if not name or not label.isdecimal():
            raise ValueError(f"line {number} of {str(path)!r} must read 'name.JPEG label', got {line!r}")
        samples.append((name, int(label)))
    return samples
