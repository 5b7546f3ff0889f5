"""List photos by split (training, validation, unlabelled) and class, from a folder or from a CSV or TSV table."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2kd_mm.datasets.loading import EXTENSIONS

TRAIN_NAMES = ('train', 'training')
VAL_NAMES = ('val', 'valid', 'validation', 'test', 'testing')  # of a validation folder, the first that there is
UNLABELLED_NAMES = ('unlabelled', 'unlabeled')
TABLES = {'.csv': ',', '.tsv': '\t'}
COLUMNS = ('path', 'label')
SPLIT = 'split'
SHOWN = 3
LAYOUT = (
    'expected PHOTOS/train/<class>/*.jpg and PHOTOS/val/<class>/*.jpg, or PHOTOS/<class>/*.jpg, of which a part is '
    'then set aside for validation, or a table PHOTOS.csv with the columns path,label[,split]'
)


@dataclass(frozen=True)
class Part:
    """Photos of one part of the data (training, validation), by class.

    Args:
        root: Folder that all paths are relative to.
        files: Paths of the photos, by class.
    """

    root: Path
    files: Mapping[str, list[str]]

    @property
    def paths(self) -> list[str]:
        """Return the paths of all photos."""
        return [os.path.join(self.root, name) for names in self.files.values() for name in names]


@dataclass(frozen=True)
class Unlabelled:
    """Photos without labels.

    Args:
        root: Folder that the paths begin in.
        files: Paths of the photos.
    """

    root: Path
    files: Sequence[str]

    @property
    def paths(self) -> list[str]:
        """Return the paths of all photos."""
        return [os.path.join(self.root, name) for name in self.files]


@dataclass(frozen=True)
class Layout:
    """All photos that were found.

    Args:
        train: To train on.
        val: To measure on; ``None`` where nothing is set aside yet.
        unlabelled: Without labels; ``None`` where there are none.
        is_table: Whether a table lists them, and not the folders.
    """

    train: Part
    val: Part | None = None
    unlabelled: Unlabelled | None = None
    is_table: bool = False


def read_folder(folder: Path) -> Layout:
    """List the photos of a folder.

    Args:
        folder: Has ``train`` and ``val`` with a folder for each class, ``train`` alone, or the folders of the classes;
            and perhaps ``unlabelled``.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has fewer than two classes, or a class without images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {str(folder)!r}; {LAYOUT}')
    has_train = (folder / 'train').is_dir()
    top = folder / 'train' if has_train else folder
    by_name = {path.name.lower(): path.name for path in sorted(folder.iterdir()) if path.is_dir()}
    misnamed = next((by_name[name] for name in TRAIN_NAMES if name in by_name), None)
    if misnamed and not has_train:
        raise ValueError(f"{str(folder / misnamed)!r} would be taken for a class; rename it to 'train'. {LAYOUT}")
    val = next((by_name[name] for name in VAL_NAMES if has_train and name in by_name), None)
    unlabelled = next((by_name[name] for name in UNLABELLED_NAMES if name in by_name), None)
    train = Part(top, _list_classes(top, None if has_train else unlabelled))
    if len(train.files) < 2:
        raise ValueError(f'{str(top)!r} has {len(train.files)} folders of classes, and at least 2 are needed; {LAYOUT}')
    for name in () if has_train else VAL_NAMES:
        part = folder / by_name.get(name, name)
        if any((part / other).is_dir() for other in train.files):
            raise ValueError(
                f"{str(part)!r} would be taken for a class, and has folders of classes; put the others into 'train'. "
                f'{LAYOUT}'
            )
    _refuse_empty(train)
    return Layout(
        train,
        None if val is None else Part(folder / val, _list_classes(folder / val)),
        None if unlabelled is None else read_unlabelled(folder / unlabelled),
    )


def read_unlabelled(folder: Path) -> Unlabelled:
    """List the photos of a folder without classes, at any depth.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has no image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {str(folder)!r} of unlabelled photos')
    files = sorted(_images(folder))
    if not files:
        raise ValueError(
            f'there is no image in {str(folder)!r}, the folder of unlabelled photos; images end in '
            f'{", ".join(EXTENSIONS)}. Add some, or take the folder away'
        )
    return Unlabelled(folder, files)


def read_table(path: Path) -> Layout:
    """List the photos of a table with the columns ``path``, ``label`` and perhaps ``split``.

    A path begins in the folder of the table. A split is one of ``train``, ``val`` and ``unlabelled``, or another usual
    name of these. Photos of the split ``unlabelled`` need no label. Other columns are passed over.

    Args:
        path: A file that ends in ``.csv`` or ``.tsv``, in UTF-8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line cannot be read; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no table {str(path)!r}; {LAYOUT}')
    files: dict[str, dict[str, list[str]]] = {part: {} for part in ('train', 'val', 'unlabelled')}
    seen: dict[str, int] = {}
    with path.open(newline='', encoding='utf-8-sig') as file:  # with or without the mark that Excel puts first
        rows = csv.reader(file, delimiter=TABLES[path.suffix.lower()], skipinitialspace=True)
        try:
            header = [name.strip().lower() for name in next(rows, [])]
            if not {*COLUMNS} <= {*header} or len({*header}) < len(header):
                raise ValueError(
                    f'expected a header with the columns {",".join(COLUMNS)}[,{SPLIT}], each once, got '
                    f'{",".join(header)!r}'
                )
            for row in rows:
                if any(cell.strip() for cell in row):
                    name, label, part = _read_row(row, header, path.parent)
                    place = os.path.normpath(name)
                    if place in seen:
                        raise ValueError(f'{name!r} stands in line {seen[place]} too')
                    seen[place] = rows.line_num
                    files[part].setdefault(label, []).append(name)
        except (ValueError, csv.Error) as error:
            raise ValueError(f'{str(path)!r}, line {rows.line_num}: {error}') from None
    train = dict(sorted(files['train'].items()))
    if len(train) < 2:
        raise ValueError(f'{str(path)!r} has {len(train)} classes to train on, and at least 2 are needed; {LAYOUT}')
    val = Part(path.parent, dict(sorted(files['val'].items()))) if files['val'] else None
    free = [name for names in files['unlabelled'].values() for name in names]
    return Layout(Part(path.parent, train), val, Unlabelled(path.parent, free) if free else None, is_table=True)


def _read_row(row: Sequence[str], header: Sequence[str], folder: Path) -> tuple[str, str, str]:
    """Path, label and part that a row of a table states."""
    if len(row) != len(header):
        raise ValueError(f'expected {len(header)} cells ({",".join(header)}), got {len(row)}: {",".join(row)!r}')
    cells = {name: cell.strip() for name, cell in zip(header, row)}
    parts = {'train': TRAIN_NAMES, 'val': VAL_NAMES, 'unlabelled': UNLABELLED_NAMES}
    stated = cells.get(SPLIT, 'train').lower()
    part = next((part for part, names in parts.items() if stated in names), None)
    if part is None:
        raise ValueError(f'{SPLIT} must be one of {", ".join(parts)}, got {cells[SPLIT]!r}')
    name, label = cells['path'], cells['label']
    if part != 'unlabelled' and not label:
        raise ValueError(f'{name!r} has no label; give it one, or the {SPLIT} unlabelled')
    if len(label.splitlines()) > 1:
        raise ValueError(f'the label {label!r} has several lines; a label is one line of text')
    if not name.lower().endswith(EXTENSIONS):
        raise ValueError(f'{name!r} is no image; images end in {", ".join(EXTENSIONS)}')
    if '\n' in name or not (folder / name).is_file():
        raise ValueError(f'there is no image {str(folder / name)!r}; a path begins in the folder of the table')
    return name, label, part


def _list_classes(folder: Path, without: str | None = None) -> dict[str, list[str]]:
    """Paths of the images of each class below its folder, sorted; hidden folders are no classes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))
    return {name: sorted(_images(folder / name, f'{name}/')) for name in names if name != without}


def _images(folder: str | Path, prefix: str = '') -> Iterator[str]:
    """Paths of the images in a folder, at any depth, behind a prefix."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _images(entry.path, f'{prefix}{entry.name}/')
            elif not entry.name.startswith('.') and entry.name.lower().endswith(EXTENSIONS) and entry.is_file():
                yield prefix + entry.name


def _refuse_empty(part: Part) -> None:
    if not any(part.files.values()):
        raise ValueError(f'there is no image in {str(part.root)!r}; images end in {", ".join(EXTENSIONS)}; {LAYOUT}')
    for name, found in part.files.items():
        if not found:
            folder = part.root / name
            others = Counter(path.suffix or path.name for path in folder.rglob('[!.]*') if path.is_file())
            held = f'only files that end in {", ".join(sorted(others))}' if others else 'it is empty'
            raise ValueError(
                f'there is no image in the class folder {str(folder)!r}, {held}; images end in '
                f'{", ".join(EXTENSIONS)}. Add some, or take the class out'
            )
