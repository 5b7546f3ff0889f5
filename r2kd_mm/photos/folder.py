"""Look at a folder of photos before anything is trained on it, and split it where it has no validation folder."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2kd_mm.datasets.loading import EXTENSIONS
from r2kd_mm.engine import AtomicLocalBackend
from r2kd_mm.runs.statistics import wilson_interval

TRAIN_NAMES = ('train', 'training')
VAL_NAMES = ('val', 'valid', 'validation', 'test', 'testing')  # of a validation folder, the first that there is
WIDE = 10.0  # percent points: an interval of an accuracy that is wider is named
SHOWN = 3
LAYOUT = (
    'expected PHOTOS/train/<class>/*.jpg and PHOTOS/val/<class>/*.jpg, or PHOTOS/<class>/*.jpg, of which a part is '
    'then set aside for validation'
)


@dataclass(frozen=True)
class Photos:
    """Photos to train and to measure on.

    Args:
        root: The folder that :class:`~r2kd_mm.datasets.ImageFolder` takes as ``data_root``.
        train: Name of the split to train on.
        val: Name of the split to measure on.
        classes: Their names, in the order of the labels.
        counts: Number of images of each class, to train and to measure on.
        notes: What a user should know about them.
        digest: Of the names of the classes and of all photos; another one where any of them changed.
    """

    root: Path
    train: str
    val: str
    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...] = ()
    digest: str = ''

    @property
    def num_train(self) -> int:
        """Number of images to train on."""
        return sum(count for count, _ in self.counts.values())

    @property
    def num_val(self) -> int:
        """Number of images to measure on."""
        return sum(count for _, count in self.counts.values())


def look_at_photos(
    folder: Path,
    out: Path,
    val_split: float = 0.2,
    seed: int = 0,
    allow_duplicates: bool = False,
    keep: bool = False,
) -> Photos:
    """List the photos of a folder, and refuse what cannot be trained on.

    Without a validation folder, a part of each class is set aside. The lists are written to ``out``, beside links to
    the photos.

    Args:
        folder: Has ``train`` and ``val`` with a folder for each class, ``train`` alone, or the folders of the classes.
        out: Where a split is written.
        val_split: Share of each class that is set aside, in ``(0, 1)``.
        seed: Decides which photos these are.
        allow_duplicates: Accept files that are byte for byte in both parts.
        keep: Take the lists that an earlier call wrote.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It has fewer than two classes, a class without images, other classes to measure on than to train on,
            or images of the one in the other.
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
    train_files = _list_classes(top)
    if len(train_files) < 2:
        raise ValueError(f'{str(top)!r} has {len(train_files)} folders of classes, and at least 2 are needed; {LAYOUT}')
    _refuse_empty(train_files, top)
    listed = [train_files]
    if val is None:
        train_files, val_files = _split(train_files, top, out, val_split, seed, keep)
        _link(out, top)
        root, train, val = out, 'train', 'val'
        notes = [
            f'{str(folder)!r} has no validation folder: {sum(map(len, val_files.values()))} images are set aside, '
            f'{val_split:.0%} of each class (seed {seed}), listed in {str(out / "meta")!r}'
        ]
    else:
        root, train, notes = folder, 'train', []
        val_files = _list_classes(folder / val)
        listed.append(val_files)
        unknown = sorted(val_files.keys() - train_files.keys())
        if unknown:
            raise ValueError(
                f'{str(folder / val)!r} has {len(unknown)} classes that {str(top)!r} lacks: '
                f'{", ".join(map(repr, unknown[:SHOWN]))}; both must have the same folders'
            )
        if not any(val_files.values()):
            raise ValueError(f'there is no image in {str(folder / val)!r}; {LAYOUT}')
        lacking = [name for name in train_files if not val_files.get(name)]
        if lacking:
            notes.append(f'{len(lacking)} classes have no validation image: {", ".join(lacking[:SHOWN])}')
        twins = _twins(_flat(top, train_files), _flat(folder / val, val_files))
        if twins and not allow_duplicates:
            one, other = twins[0]
            raise ValueError(
                f'{len(twins)} validation images are byte for byte training images too, such as {str(other)!r} '
                f'and {str(one)!r}; an accuracy on them means little. Take them out, or allow it by --allow-duplicates'
            )
    counts = {name: (len(train_files[name]), len(val_files.get(name, ()))) for name in train_files}
    photos = Photos(root, train, val, tuple(train_files), counts)
    low, high = (100 * bound for bound in wilson_interval(photos.num_val // 2, photos.num_val))
    if high - low > WIDE:
        notes.append(
            f'{photos.num_val} validation images say little: an accuracy of 50 % has the 95 % interval '
            f'[{low:.0f}, {high:.0f}]'
        )
    smallest, largest = (choose(counts, key=lambda name: counts[name][0]) for choose in (min, max))
    if counts[largest][0] > 10 * counts[smallest][0]:
        notes.append(
            f'the classes are uneven: {counts[smallest][0]} training images of {smallest!r}, '
            f'{counts[largest][0]} of {largest!r}'
        )
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return Photos(root, train, val, photos.classes, counts, tuple(notes), digest)


def refuse_within(out: Path, folder: Path) -> None:
    """Refuse an output folder that would be listed among the photos.

    Raises:
        ValueError: It lies where the classes are.
    """
    if not out.resolve().is_relative_to(folder.resolve()):
        return
    first = (*out.resolve().relative_to(folder.resolve()).parts, '')[0]
    beside = first and (folder / 'train').is_dir() and first.lower() not in (*TRAIN_NAMES, *VAL_NAMES)
    if not beside and not first.startswith('.'):
        raise ValueError(
            f'--out {str(out)!r} lies among the photos of {str(folder)!r} and would be taken for a class or its '
            'images; give a folder outside'
        )


def _list_classes(folder: Path) -> dict[str, list[str]]:
    """Paths of the images of each class below its folder, sorted; hidden folders are no classes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))
    return {
        name: sorted(
            path.relative_to(folder).as_posix()
            for path in (folder / name).rglob('[!.]*')
            if path.suffix.lower() in EXTENSIONS and path.is_file()
        )
        for name in names
    }


def _refuse_empty(files: Mapping[str, Sequence[str]], folder: Path) -> None:
    if not any(files.values()):
        raise ValueError(f'there is no image in {str(folder)!r}; images end in {", ".join(EXTENSIONS)}; {LAYOUT}')
    for name, found in files.items():
        if not found:
            others = Counter(path.suffix or path.name for path in (folder / name).rglob('[!.]*') if path.is_file())
            held = f'only files that end in {", ".join(sorted(others))}' if others else 'it is empty'
            raise ValueError(
                f'there is no image in the class folder {str(folder / name)!r}, {held}; images end in '
                f'{", ".join(EXTENSIONS)}. Add some, or take the class out'
            )


def _split(
    files: Mapping[str, Sequence[str]], top: Path, out: Path, share: float, seed: int, keep: bool
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Set a share of each class aside, and write both lists."""
    if not (keep and (out / 'meta' / 'val.txt').is_file()):
        copies = {path for group in _same(_flat(top, files)) for path in group}
        lines: dict[str, list[str]] = {'train': [], 'val': []}
        for label, (name, paths) in enumerate(files.items()):
            single = [path for path in paths if top / path not in copies]  # of copies, all are trained on
            count = min(max(1, round(share * len(paths))), len(single), len(paths) - 1)
            if count < 1:
                raise ValueError(
                    f'class {name!r} has {len(paths)} image{"s" * (len(paths) > 1)} that differ from each other in '
                    f'{len(single) or 1}, and at least 2 different ones are needed to set one aside; add images, or a '
                    'validation folder'
                )
            aside = set(random.Random(f'{seed} {name}').sample(single, count))
            for path in paths:
                lines['val' if path in aside else 'train'].append(f'{path} {label}')
        (out / 'meta').mkdir(parents=True, exist_ok=True)
        for part in ('train', 'val'):  # val last: it says that both are there
            AtomicLocalBackend().put_text('\n'.join(lines[part]) + '\n', out / 'meta' / f'{part}.txt')
    return _read(out / 'meta' / 'train.txt', files), _read(out / 'meta' / 'val.txt', files)


def _read(path: Path, classes: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in classes}
    for line in path.read_text(encoding='utf-8').splitlines():
        name = line.rpartition(' ')[0]
        found.setdefault(name.split('/')[0], []).append(name)
    return found


def _link(out: Path, top: Path) -> None:
    """Make ``out/train`` and ``out/val`` links to the photos, whose lists tell them apart."""
    for part in ('train', 'val'):
        link = out / part
        if link.is_symlink():
            link.unlink()
        link.symlink_to(top.resolve(), target_is_directory=True)


def _flat(folder: Path, files: Mapping[str, Sequence[str]]) -> list[Path]:
    return [folder / path for paths in files.values() for path in paths]


def _twins(first: Iterable[Path], second: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Pairs of equal files, one of each list."""
    first, second = set(first), set(second)
    pairs = []
    for group in _same([*first, *second]):
        ours = sorted(first.intersection(group))
        pairs += [(ours[0], other) for other in sorted(second.intersection(group)) if ours]
    return sorted(pairs)


def _same(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of at least two files with the same bytes; only files of one size are read."""
    by_size = defaultdict(list)
    for path in paths:
        by_size[path.stat().st_size].append(path)
    groups = defaultdict(list)
    for size, members in by_size.items():
        for path in members if len(members) > 1 else ():
            groups[size, hashlib.sha256(path.read_bytes()).digest()].append(path)
    return [group for group in groups.values() if len(group) > 1]
