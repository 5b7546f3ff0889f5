"""Define the base class of the public data sets, which checks before training that no image is missing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from mmpretrain.datasets import BaseDataset

from r2kd_mm.published import PUBLISHED, check_contents, expected_contents


class ImageSet(BaseDataset):
    """One split of a public image set, which is checked to be complete before training starts.

    A subclass reads the published files (:meth:`read_split`). This class checks that the files exist, that the numbers
    of classes and images are the published ones, and that no listed image is missing. A miniature or a subset gives
    its own numbers in ``<data_root>/contents.json``, see :mod:`r2kd_mm.published`.

    Args:
        data_root: Folder of the data set, made by ``tools/dataset_converters/prepare_<key>.py``.
        split: Name of the split in the table of published contents.
        pipeline: Transforms of a sample.
        test_mode: If true, a pipeline that returns ``None`` is an error; if false, another image is drawn at random.
        indices: Use the first ``indices`` samples, or the listed ones; ``None`` for all.
        lazy_init: If true, read the lists at first use instead of in the constructor.

    Raises:
        FileNotFoundError: The folder, one of its lists, or a listed image is missing.
        ValueError: The split does not exist, the numbers differ from the expected ones, or a list cannot be read.
    """

    key: str  # of the table of published contents
    required: tuple[str, ...]  # files and folders, below data_root

    def __init__(
        self,
        data_root: str,
        split: str,
        pipeline: Sequence = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
        lazy_init: bool = False,
    ) -> None:
        splits = tuple(PUBLISHED[self.key].contents.images)
        if split not in splits:
            raise ValueError(f'split of {type(self).__name__} must be one of {splits}, got {split!r}')
        self.split = split
        super().__init__(
            ann_file='',
            data_root=os.path.expanduser(data_root),
            pipeline=pipeline,
            test_mode=test_mode,
            indices=indices,
            lazy_init=lazy_init,
        )

    def read_split(self, root: Path) -> tuple[list[str], list[dict]]:
        """Read the published lists of ``self.split``.

        Args:
            root: Folder with all files in ``required``.

        Returns:
            Names of the classes in the order of their labels; samples with ``gt_label``, and ``img_path`` or ``img``.

        Raises:
            ValueError: A list cannot be understood.
        """
        raise NotImplementedError

    def find_samples(self) -> list[dict]:
        """Return the samples of the split after all checks, and name the classes in ``metainfo``.

        Raises:
            FileNotFoundError: The folder, one of its lists, or a listed image is missing.
            ValueError: The numbers differ from the expected ones, or a list cannot be read.
        """
        root = Path(self.data_root)
        if not root.is_dir():
            raise FileNotFoundError('there is no such folder')
        missing = [name for name in self.required if not (root / name).exists()]
        if missing:
            found = ', '.join(sorted(os.listdir(root))[:10]) or 'nothing'
            raise FileNotFoundError(f'found {found}, but not {", ".join(missing)}')
        classes, samples = self.read_split(root)
        check_contents(expected_contents(self.key, root), self.split, len(classes), len(samples))
        missing = missing_files(sample['img_path'] for sample in samples if 'img_path' in sample)
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of the {len(samples)} {self.split} images are missing, such as '
                f'{os.path.relpath(missing[0], root)!r}'
            )
        self._metainfo['classes'] = tuple(classes)
        return samples

    def load_data_list(self) -> list[dict]:
        """Return :meth:`find_samples`; add the command that prepares the data set to an error."""
        try:
            return self.find_samples()
        except (FileNotFoundError, ValueError) as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            published = PUBLISHED[self.key]
            raise kind(
                f'{published.title} in {self.data_root!r}: {error}. Get {", ".join(published.archives)} from '
                f'{published.url}, then (where that folder exists, move it away first): '
                f'python tools/dataset_converters/prepare_{self.key}.py FOLDER_OF_THE_DOWNLOADS {self.data_root}'
            ) from error


def missing_files(paths: Iterable[str]) -> list[str]:
    """Return the ``paths`` that do not exist; list each folder once, because network disks are slow."""
    missing = []
    for folder, group in groupby(paths, key=os.path.dirname):
        present = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        missing += [path for path in group if os.path.basename(path) not in present]
    return missing


def read_lines(path: Path, num_columns: int) -> list[list[str]]:
    """Read the lines of a list file, split at white space, without blank lines.

    Args:
        path: Text file.
        num_columns: Smallest number of columns in a line.

    Raises:
        ValueError: A line has fewer columns.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding='utf-8', errors='replace').splitlines(), start=1):
        columns = line.split()
        if columns and len(columns) < num_columns:
            raise ValueError(f'line {number} of {path.name} must have {num_columns} columns, got {line!r}')
        if columns:
            rows.append(columns)
    return rows
