"""Compute a fingerprint of a data set from sampled labels, paths and files, to detect a changed data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np

from r2kd_mm.checkpoint import digest_of_file
from r2kd_mm.engine.seeding import SeededDataset
from r2kd_mm.engine.wrapped_data import data_info

FINGERPRINT_SAMPLES = 1000


def fingerprint(dataset: Sized) -> dict[str, Any]:
    """Return the fingerprint of a data set: number of images and classes, and hashes of labels, paths and files.

    Args:
        dataset: Data set in MMEngine's format; for other data sets only the number of images is known.

    Returns:
        ``images`` and ``classes``: numbers of images and classes. ``sha256``: hash of the class names, and of label and
        path of up to 1000 evenly spaced samples. Paths are relative to the data folder; samples without a path are
        hashed by their pixels. ``contents``: SHA-256 of the files of these samples, or of a few inputs without files.
    """
    classes = tuple(map(str, getattr(dataset, 'metainfo', {}).get('classes') or ()))
    digest = hashlib.sha256('\n'.join(classes).encode())
    if hasattr(dataset, 'get_data_info'):
        for index in np.linspace(0, len(dataset) - 1, min(len(dataset), FINGERPRINT_SAMPLES)).astype(int):
            info = dataset.get_data_info(int(index))
            root = str(getattr(dataset, 'data_root', '') or '')
            where = str(info['img_path']).removeprefix(root).lstrip('/') if 'img_path' in info else ''
            digest.update(f'{index} {info.get("gt_label")} {where}'.encode())
            digest.update(np.ascontiguousarray(info['img']).tobytes() if 'img' in info else b'')
    contents = _digest_of_contents(dataset)
    return dict(images=len(dataset), classes=len(classes), sha256=digest.hexdigest(), **contents)


def _digest_of_contents(dataset: Sized) -> dict[str, str]:
    """Return the ``contents`` of :func:`fingerprint`; empty if no file can be read and no input repeats."""
    digest, found = hashlib.sha256(), False
    for index in np.linspace(0, len(dataset) - 1, min(len(dataset), FINGERPRINT_SAMPLES)).astype(int):
        path = Path(str(data_info(dataset, int(index)).get('img_path', '')))
        if path.is_file():
            digest.update(digest_of_file(str(path)).encode())
            found = True
    if not found and isinstance(dataset, SeededDataset) and 'img' not in data_info(dataset, 0):
        trial = dataset.try_out()
        digest.update(str(trial.checksums).encode())
        found = not trial.changing
    return dict(contents=digest.hexdigest()) if found else {}
