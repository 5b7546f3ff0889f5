"""Find files that are the same byte for byte."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

END = 4096  # bytes


def twins(first: Iterable[Path], second: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return pairs of equal files, one of each list."""
    first, second = set(first), set(second)
    pairs = []
    for group in same_files([*first, *second]):
        ours = sorted(first.intersection(group))
        pairs += [(ours[0], other) for other in sorted(second.intersection(group)) if ours]
    return sorted(pairs)


def same_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Return groups of at least two files with the same bytes.

    Only files of one size are read, and only those with one end are read whole.
    """
    groups = [list(paths)]
    for key in (_size, _end, _digest):
        groups = [part for group in groups for part in _grouped(group, key)]
    return groups


def _grouped(paths: Iterable[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Groups of at least two files with the same key."""
    groups = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _end(path: Path) -> bytes:
    """The last bytes, which differ sooner than the first ones: many files begin with the same header."""
    with path.open('rb') as file:
        file.seek(max(0, path.stat().st_size - END))
        return hashlib.sha256(file.read()).digest()


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
