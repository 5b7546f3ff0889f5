"""Teacher logits on disk, so that a teacher is asked once for each image and not in every epoch."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from torch import Tensor

from r2kd_mm.engine import AtomicLocalBackend

DTYPES = ('float16', 'float32')
DESCRIPTION = 'store.json'
RESERVE = 1.05  # free space asked for, over what the store will take


@dataclass(frozen=True)
class RowFormat:
    """How the logits of one image and view lie in the file.

    Args:
        num_classes: Number C of logits.
        dtype: ``'float16'``, which keeps 3 decimal digits of logits up to 65504, or ``'float32'``, which is exact.
        top_k: Keep the largest so many; the others become one common value that leaves their total probability, at
            temperature 1, as it was. ``None`` keeps all.
    """

    num_classes: int
    dtype: str = 'float16'
    top_k: int | None = None

    @property
    def layout(self) -> np.dtype:
        """One row as NumPy sees it."""
        if self.top_k is None:
            return np.dtype([('logits', self.dtype, self.num_classes)])
        return np.dtype([('logits', self.dtype, self.top_k), ('rest', self.dtype), ('classes', np.uint32, self.top_k)])

    def encode(self, logits: Tensor) -> np.ndarray:
        """Rows for ``logits`` of shape ``(N, C)``; shape ``(N,)`` of :attr:`layout`."""
        logits = logits.detach().float().cpu()
        rows = np.zeros(len(logits), self.layout)
        if self.top_k is None:
            rows['logits'] = logits.numpy()
            return rows
        values, classes = logits.topk(self.top_k, dim=1)
        rest = logits.scatter(1, classes, -torch.inf).logsumexp(dim=1) - math.log(self.num_classes - self.top_k)
        rows['logits'], rows['rest'], rows['classes'] = values.numpy(), rest.numpy(), classes.numpy()
        return rows

    def decode(self, rows: np.ndarray) -> Tensor:
        """Logits of shape ``(N, C)``, float32, on the CPU."""
        logits = torch.from_numpy(rows['logits'].astype(np.float32))
        if self.top_k is None:
            return logits
        rest = torch.from_numpy(rows['rest'].astype(np.float32))
        whole = rest[:, None].repeat(1, self.num_classes)
        return whole.scatter_(1, torch.from_numpy(rows['classes'].astype(np.int64)), logits)


class LogitStore:
    """The logits that a student learns from, by view, round and image.

    Images and draws repeat after ``cycle`` epochs, the rounds, and so do the logits. In the first of them the teachers
    are run and the logits written; afterwards they are read. Each (view, round) is a file of rows, one for each image,
    beside a file of their checksums: a row that is torn or missing is one that the teacher is asked for again. Any
    number of processes may write and read the same folder, each its own images, and another number may read it later.

    What decides the logits (teacher, pruner, pipeline, data, seed ...) decides the name of the store's own folder in
    ``folder``: a store is used for nothing else, and runs that differ can share ``folder``.

    Attributes:
        folder: The store's own folder, known once it is open.
        bytes_needed: Size of the whole store, likewise.

    Args:
        folder: Where stores lie; made if need be.
        dtype: See :class:`RowFormat`.
        top_k: See :class:`RowFormat`.

    Raises:
        ValueError: ``dtype`` or ``top_k`` is out of range.
    """

    _format: RowFormat  # known once it is open

    def __init__(self, folder: str | os.PathLike, dtype: str = 'float16', top_k: int | None = None) -> None:
        if dtype not in DTYPES:
            raise ValueError(f'dtype of a replay must be one of {DTYPES}, got {dtype!r}')
        if top_k is not None and top_k < 1:
            raise ValueError(f'top_k of a replay must be at least 1, or None to keep all classes, got {top_k}')
        self.root = Path(folder)
        self.dtype = dtype
        self.top_k = top_k
        self.folder = self.root
        self.description: dict[str, Any] = {}
        self.bytes_needed = 0
        self._files: dict[tuple[str, int], _RowFile] = {}

    @property
    def is_complete(self) -> bool:
        """Whether the open store has been gone through, all images of every round."""
        return _is_complete(self.description)

    @property
    def has_complete(self) -> bool:
        """Whether there is any complete store in the root, before it is known which is the right one."""
        return any(map(_is_complete, self._descriptions()))

    def __deepcopy__(self, memo: dict) -> LogitStore:
        # a copy of a distiller, such as its moving average, has the same files
        return self

    def open(
        self, made_from: Mapping[str, str], num_classes: int, num_images: int, cycle: int, views: Sequence[str]
    ) -> list[str]:
        """Get ready to read and write, a store that was begun before or a new one. To be called on all ranks.

        Args:
            made_from: What decides the logits, by name: teacher, data, pipeline, seed ...
            num_classes: Number of logits of an image.
            num_images: Size of the data set.
            cycle: Number of rounds.
            views: Their names.

        Returns:
            The names under which it differs from the most similar other one, if it is new and there are others.

        Raises:
            ValueError: ``top_k`` is no less than ``num_classes``.
            OSError: There is not enough space for the whole store.
        """
        if self.top_k is not None and self.top_k >= num_classes:
            raise ValueError(
                f'top_k of a replay must be below num_classes={num_classes}, got {self.top_k}; None keeps all classes'
            )
        self._format = RowFormat(num_classes, self.dtype, self.top_k)
        row = self._format.layout.itemsize + _RowFile.CHECKSUM_BYTES
        self.bytes_needed = row * num_images * cycle * len(views)
        made_from = dict(made_from, format=str(self._format), images=str(num_images), cycle=str(cycle))
        others = [other['made_from'] for other in self._descriptions()]
        if made_from in others:
            differences = []
        else:
            differences = min((_differences(made_from, other) for other in others), key=len, default=[])
        self.folder = self.root / hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
        if is_main_process():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_space()
            if not _read_description(self.folder):
                self._write_description(dict(made_from=made_from, cycle=cycle, complete_rounds=[]))
        barrier()
        self.description = _read_description(self.folder)
        self._files = {
            (view, number): _RowFile(self.folder / f'{view}_{number:04d}', self._format.layout, num_images)
            for view in views
            for number in range(cycle)
        }
        return differences

    def read(self, view: str, number: int, images: Sequence[int]) -> Tensor | None:
        """Logits ``(N, C)`` of ``images`` in round ``number``, float32, on the CPU; ``None`` unless all are whole."""
        rows = self._files[view, number].read(np.asarray(images))
        return None if rows is None else self._format.decode(rows)

    def write(self, view: str, number: int, images: Sequence[int], logits: Tensor) -> None:
        """Keep ``logits`` of shape ``(N, C)``."""
        self._files[view, number].write(np.asarray(images), self._format.encode(logits))

    def complete(self, number: int) -> None:
        """Note that all images of round ``number`` have been gone through. To be called on all ranks."""
        barrier()
        done = sorted({*self.description['complete_rounds'], number})
        if is_main_process() and done != self.description['complete_rounds']:
            self._write_description(dict(self.description, complete_rounds=done))
        self.description['complete_rounds'] = done

    def _descriptions(self) -> list[dict[str, Any]]:
        """Those of all stores in the root."""
        folders = sorted(self.root.iterdir()) if self.root.is_dir() else []
        return [description for description in map(_read_description, folders) if description]

    def _write_description(self, description: dict) -> None:
        AtomicLocalBackend().put_text(json.dumps(description, indent=1), self.folder / DESCRIPTION)

    def _check_space(self) -> None:
        taken = sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())
        needed, free = self.bytes_needed, shutil.disk_usage(self.folder).free
        if (needed - taken) * RESERVE > free:
            raise OSError(
                f'the replay needs {needed / 1e9:.1f} GB in {str(self.root)!r}, where {free / 1e9:.1f} GB are free; '
                'give another folder, a smaller cycle, or top_k'
            )


def _read_description(folder: Path) -> dict[str, Any]:
    """What a store says of itself; empty where there is none, or a torn one."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        return {}
    return description if isinstance(description, dict) and 'made_from' in description else {}


def _is_complete(description: Mapping[str, Any]) -> bool:
    return len(description.get('complete_rounds', ())) == description.get('cycle')


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class _RowFile:
    """Rows of one layout with a checksum each; sparse until they are written."""

    CHECKSUM_BYTES = 4

    def __init__(self, path: Path, layout: np.dtype, num_rows: int) -> None:
        self._layout = layout
        self._rows = _opened(path.with_suffix('.rows'), layout.itemsize * num_rows)
        self._checksums = _opened(path.with_suffix('.crc'), self.CHECKSUM_BYTES * num_rows)
        self._row_map = np.memmap(path.with_suffix('.rows'), layout, 'r', shape=num_rows)
        self._checksum_map = np.memmap(path.with_suffix('.crc'), np.uint32, 'r', shape=num_rows)

    def read(self, places: np.ndarray) -> np.ndarray | None:
        expected = self._checksum_map[places]
        if not expected.all():
            return None
        rows = self._row_map[places]
        return rows if np.array_equal(_checksums(rows, places), expected) else None

    def write(self, places: np.ndarray, rows: np.ndarray) -> None:
        # not through the map: nodes that share a file system must not write each other's rows back with their pages
        for place, row, checksum in zip(places.tolist(), rows, _checksums(rows, places)):
            os.pwrite(self._rows.fileno(), row.tobytes(), place * self._layout.itemsize)
            os.pwrite(self._checksums.fileno(), checksum.tobytes(), place * self.CHECKSUM_BYTES)


def _opened(path: Path, size: int) -> FileIO:
    """The file at ``path``, made to have ``size`` bytes, for reading and writing."""
    path.touch()
    if path.stat().st_size != size:
        os.truncate(path, size)
    return path.open('r+b', buffering=0)


def _checksums(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """CRC-32 of each row, which knows its place; never 0, which marks a row that is missing."""
    checksums = [zlib.crc32(row.tobytes(), place) or 1 for row, place in zip(rows, (places + 1).tolist())]
    return np.array(checksums, np.uint32)
