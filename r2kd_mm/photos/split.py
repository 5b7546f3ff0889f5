"""Split photos at random into training and validation, and write the file lists that ``ImageFolder`` reads."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from r2kd_mm.engine import AtomicLocalBackend
from r2kd_mm.photos.duplicates import same_files
from r2kd_mm.photos.layout import Part, Unlabelled

Files = Mapping[str, Sequence[str]]
PARTS = ('train', 'val')
UNLABELLED_LIST = 'meta/unlabelled.txt'


def set_aside(part: Part, share: float, seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Split photos at random into training and validation photos, class by class.

    Files that occur more than once (same bytes) all stay in the training photos.

    Args:
        part: All photos.
        share: Share of each class for validation, in ``(0, 1)``.
        seed: Random seed of the split.

    Raises:
        ValueError: A class has fewer than 2 different photos.
    """
    copies = {path for group in same_files(part.paths) for path in group}
    train: dict[str, list[str]] = {}
    val: dict[str, list[str]] = {}
    for name, paths in part.files.items():
        single = [path for path in paths if os.path.join(part.root, path) not in copies]
        count = min(max(1, round(share * len(paths))), len(single), len(paths) - 1)
        if count < 1:
            raise ValueError(
                f'class {name!r} has {len(paths)} image{"s" * (len(paths) > 1)} that differ from each other in '
                f'{len(single) or 1}, and at least 2 different ones are needed to set one aside; add images, or a '
                'validation folder'
            )
        aside = set(random.Random(f'{seed} {name}').sample(single, count))
        train[name] = [path for path in paths if path not in aside]
        val[name] = [path for path in paths if path in aside]
    return train, val


def has_lists(out: Path) -> bool:
    """Return whether an earlier call wrote both lists."""
    return (out / 'meta' / 'val.txt').is_file()


def write_lists(out: Path, root: Path, train: Files, val: Files) -> None:
    """Write both lists, the names of the classes, and links to the photos.

    Args:
        out: The ``data_root`` of the data sets.
        root: Where the paths begin.
        train: Photos of each class to train on; their order is that of the labels.
        val: Photos to measure on.
    """
    labels = {name: label for label, name in enumerate(train)}
    (out / 'meta').mkdir(parents=True, exist_ok=True)
    AtomicLocalBackend().put_text('\n'.join(labels) + '\n', out / 'meta' / 'classes.txt')
    for part, files in zip(PARTS, (train, val)):  # val last: it says that both are there
        lines = [f'{path} {labels[name]}' for name, paths in files.items() for path in paths]
        AtomicLocalBackend().put_text('\n'.join(lines) + '\n', out / 'meta' / f'{part}.txt')
        link = out / part
        if link.is_symlink():
            link.unlink()
        link.symlink_to(root.resolve(), target_is_directory=True)


def read_list(out: Path, part: str, classes: Iterable[str]) -> dict[str, list[str]]:
    """Read a list that :func:`write_lists` wrote; photos of other classes are under their label."""
    names = list(classes)
    found: dict[str, list[str]] = {name: [] for name in names}
    for line in (out / 'meta' / f'{part}.txt').read_text(encoding='utf-8').removesuffix('\n').split('\n'):
        path, _, label = line.rpartition(' ')
        found.setdefault(names[int(label)] if int(label) < len(names) else label, []).append(path)
    return found


def write_unlabelled(out: Path, photos: Unlabelled) -> None:
    """Write the list of the photos without labels."""
    (out / UNLABELLED_LIST).parent.mkdir(parents=True, exist_ok=True)
    AtomicLocalBackend().put_text('\n'.join(photos.files) + '\n', out / UNLABELLED_LIST)
