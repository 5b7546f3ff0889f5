"""Find duplicate files: files with exactly the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable

END = 4096  # bytes


def twins(first: Iterable[str], second: Iterable[str]) -> list[tuple[str, str]]:
    """Return a pair of paths for each file of ``second`` that has the same bytes as a file of ``first``.

    To save time, sizes are compared first, then the last bytes of equally large files, then whole files.
    """
    groups = [(list(first), list(second))]
    for key in KEYS:
        parts = [(_by_key(ours, key), _by_key(others, key)) for ours, others in groups]
        groups = [(ours[value], others[value]) for ours, others in parts for value in ours.keys() & others.keys()]
    return sorted((min(ours), other) for ours, others in groups for other in others)


def same_files(paths: Iterable[str]) -> list[list[str]]:
    """Return groups of at least two files with the same bytes, which are read as in :func:`twins`."""
    groups = [list(paths)]
    for key in KEYS:
        groups = [part for group in groups for part in _by_key(group, key).values() if len(part) > 1]
    return groups


def _by_key(paths: Iterable[str], key: Callable[[str], Hashable]) -> dict[Hashable, list[str]]:
    groups = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return groups


def _end(path: str) -> bytes:
    """The last bytes, which differ sooner than the first ones: many files begin with the same header."""
    with open(path, 'rb') as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - END))
        return hashlib.sha256(file.read()).digest()


def _digest(path: str) -> bytes:
    with open(path, 'rb') as file:
        return hashlib.sha256(file.read()).digest()


KEYS: tuple[Callable[[str], Hashable], ...] = (os.path.getsize, _end, _digest)  # each costs more than the one before
