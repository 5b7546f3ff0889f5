"""List and check the photos before training; without validation photos, set some of the training photos aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r2kd_mm.photos.duplicates import twins
from r2kd_mm.photos.layout import (
    LAYOUT,
    SHOWN,
    TABLES,
    TRAIN_NAMES,
    UNLABELLED_NAMES,
    VAL_NAMES,
    Layout,
    Part,
    Unlabelled,
    read_folder,
    read_table,
    read_unlabelled,
)
from r2kd_mm.photos.split import PARTS, has_lists, read_list, set_aside, write_lists, write_unlabelled
from r2kd_mm.runs.statistics import wilson_interval

WIDE = 10.0  # percent points: an interval of an accuracy that is wider is named


@dataclass(frozen=True)
class Photos:
    """Photos to train and to validate on.

    Args:
        root: Folder for the ``data_root`` of :class:`~r2kd_mm.datasets.ImageFolder`.
        train: Name of the split to train on.
        val: Name of the split to validate on.
        classes: Names of the classes, in the order of the labels.
        counts: Numbers of training and of validation images, by class.
        notes: Remarks on the photos for the user.
        digest: Hash of the names of all classes and photos; a changed name changes it.
        unlabelled: Photos without labels; ``None`` if there are none.
        paths: Paths of all photos, by ``'train'``, ``'val'`` and ``'unlabelled'``.
    """

    root: Path
    train: str
    val: str
    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...] = ()
    digest: str = ''
    unlabelled: Unlabelled | None = None
    paths: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def num_train(self) -> int:
        """Number of images to train on."""
        return sum(count for count, _ in self.counts.values())

    @property
    def num_val(self) -> int:
        """Number of images to measure on."""
        return sum(count for _, count in self.counts.values())


def look_at_photos(
    data: Path,
    out: Path,
    val_split: float = 0.2,
    seed: int = 0,
    allow_duplicates: bool = False,
    keep: bool = False,
    unlabelled: Path | None = None,
) -> Photos:
    """List the photos of a folder or a table, and refuse what cannot be trained on.

    Without a validation folder, a part of each class is set aside. The lists are written to ``out``, next to links to
    the photos.

    Args:
        data: A folder, see :func:`~r2kd_mm.photos.layout.read_folder`, or a table, see
            :func:`~r2kd_mm.photos.layout.read_table`.
        out: Where lists are written.
        val_split: Share of each class that is set aside, in ``(0, 1)``.
        seed: Decides which photos these are.
        allow_duplicates: Accept files that are byte for byte in both parts.
        keep: Take the lists that an earlier call wrote.
        unlabelled: Folder of photos without labels; ``None`` takes those among ``data``.

    Raises:
        FileNotFoundError: There is no such folder or table.
        ValueError: It has fewer than two classes, a class without images, other classes to measure on than to train on,
            or images of the one in the other; or a line of a table cannot be read.
    """
    found = read_table(data) if data.suffix.lower() in TABLES else read_folder(data)
    free = found.unlabelled if unlabelled is None else read_unlabelled(unlabelled)
    train, val = found.train.files, {} if found.val is None else found.val.files
    listed = [train] if found.val is None else [train, val]
    notes = []
    if unlabelled is not None and found.unlabelled is not None:
        notes.append(
            f'--unlabelled {str(unlabelled)!r} takes the place of the {len(found.unlabelled.files)} photos without '
            f'labels among {str(data)!r}; put all into one folder to use both'
        )
    if found.val is not None:
        notes += _check_classes(found)
    elif keep and has_lists(out):
        train, val = (read_list(out, part, train) for part in PARTS)
    else:
        train, val = set_aside(found.train, val_split, seed)
    if found.val is None:
        notes.append(
            f'{str(data)!r} has no validation {"photos" if found.is_table else "folder"}: '
            f'{sum(map(len, val.values()))} images are set aside, {val_split:.0%} of each class (seed {seed}), listed '
            f'in {str(out / "meta")!r}'
        )
    paths = dict(
        train=Part(found.train.root, train).paths,
        val=Part((found.val or found.train).root, val).paths,
        unlabelled=[] if free is None else free.paths,
    )
    if not allow_duplicates:
        _refuse_duplicates(paths, [] if found.val is None else ['train'])  # of copies, none is set aside
    root, names = data, ('train', '' if found.val is None else found.val.root.name)
    if found.val is None or found.is_table:
        write_lists(out, found.train.root, train, val)
        root, names = out, PARTS
    if free is not None:
        write_unlabelled(out, free)
    counts = {name: (len(train[name]), len(val.get(name, ()))) for name in train}
    of_all = [*listed, list(free.files)] if free is not None else listed
    return Photos(
        root,
        *names,
        tuple(train),
        counts,
        (*notes, *_about(counts)),
        hashlib.sha256(json.dumps(of_all).encode()).hexdigest(),
        free,
        paths,
    )


def refuse_within(out: Path, data: Path) -> None:
    """Refuse an output folder that would be listed among the photos.

    Raises:
        ValueError: It lies where the classes are.
    """
    if data.suffix.lower() in TABLES or not out.resolve().is_relative_to(data.resolve()):
        return
    first = (*out.resolve().relative_to(data.resolve()).parts, '')[0]
    beside = first and (data / 'train').is_dir() and first.lower() not in (*TRAIN_NAMES, *VAL_NAMES, *UNLABELLED_NAMES)
    if not beside and not first.startswith('.'):
        raise ValueError(
            f'--out {str(out)!r} lies among the photos of {str(data)!r} and would be taken for a class or its '
            'images; give a folder outside'
        )


def _check_classes(found: Layout) -> list[str]:
    """Refuse validation photos of other classes; note which classes have none."""
    assert found.val is not None
    train, val = found.train, found.val
    unknown = sorted(val.files.keys() - train.files.keys())
    if unknown:
        owners, same = (repr(str(val.root)), repr(str(train.root))), 'folders'
        if found.is_table:
            owners, same = ('split val', 'split train'), 'labels'
        raise ValueError(
            f'{owners[0]} has {len(unknown)} classes that {owners[1]} lacks: '
            f'{", ".join(map(repr, unknown[:SHOWN]))}; both must have the same {same}'
        )
    if not any(val.files.values()):
        raise ValueError(f'there is no image in {str(val.root)!r}; {LAYOUT}')
    lacking = [name for name in train.files if not val.files.get(name)]
    return [f'{len(lacking)} classes have no validation image: {", ".join(lacking[:SHOWN])}'] if lacking else []


def _refuse_duplicates(paths: Mapping[str, Sequence[str]], parts: Sequence[str]) -> None:
    """Refuse photos to measure on that are among the unlabelled ones or those of ``parts``."""
    for part in (*parts, 'unlabelled'):
        found = twins(paths[part], paths['val']) if paths[part] else []
        kind = 'training' if part == 'train' else part
        if found:
            one, other = found[0]
            raise ValueError(
                f'{len(found)} validation images are byte for byte {kind} images too, such as {other!r} '
                f'and {one!r}; an accuracy on them means little. Take them out, or allow it by --allow-duplicates'
            )


def _about(counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """Say what a user should know about the numbers of photos."""
    notes = []
    measured = sum(count for _, count in counts.values())
    low, high = (100 * bound for bound in wilson_interval(measured // 2, measured))
    if high - low > WIDE:
        notes.append(
            f'{measured} validation images say little: an accuracy of 50 % has the 95 % interval '
            f'[{low:.0f}, {high:.0f}]'
        )
    smallest, largest = (choose(counts, key=lambda name: counts[name][0]) for choose in (min, max))
    if counts[largest][0] > 10 * counts[smallest][0]:
        notes.append(
            f'the classes are uneven: {counts[smallest][0]} training images of {smallest!r}, '
            f'{counts[largest][0]} of {largest!r}'
        )
    return notes
