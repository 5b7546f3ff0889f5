"""Store teacher logits on disk, and read them when an augmentation repeats, instead of running the teachers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from torch import Tensor

from r2kd_mm.engine import AtomicLocalBackend

DTYPES = ('float16', 'float32')
DESCRIPTION = 'store.json'
VERSION = 2  # of the files; those of r2kd_mm 0.1.0 have none, and no checksum of the images
MAX_OPEN_FILES = 4  # the views of a round are read together, and no other round with them
HALF_EXPONENT = 15  # float16 holds numbers below 2**16; one bit is left for rounding
MIN_EXPONENT = -100  # below it, the power of two that scales a row would overflow in float32
RESERVE = 1.05  # free space asked for, over what the store will take


@dataclass(frozen=True)
class RowFormat:
    """Layout of the logits of one image and view in a file.

    Args:
        num_classes: Number C of logits.
        dtype: ``'float16'``, which keeps 3 decimal digits, or ``'float32'``, which is exact. A row in float16 is scaled
            by a power of two, so that logits of any size fit.
        top_k: Keep only this number of largest logits. The others are replaced by one common value that
            keeps their total probability at temperature 1. ``None`` keeps all.
    """

    num_classes: int
    dtype: str = 'float16'
    top_k: int | None = None

    @property
    def layout(self) -> np.dtype:
        """One row as NumPy sees it."""
        fields: list[tuple] = [('checksum', np.uint32), ('input', np.uint32), ('exponent', np.int32)]
        if self.top_k is None:
            return np.dtype([*fields, ('logits', self.dtype, self.num_classes)])
        kept = [('logits', self.dtype, self.top_k), ('rest', self.dtype), ('classes', np.uint32, self.top_k)]
        return np.dtype([*fields, *kept])

    def encode(self, logits: Tensor) -> np.ndarray:
        """Rows for ``logits`` of shape ``(N, C)``; shape ``(N,)`` of :attr:`layout`, without checksums."""
        logits = logits.detach().float().cpu()
        rows = np.zeros(len(logits), self.layout)
        if self.dtype == 'float16':
            largest = logits.masked_fill(~logits.isfinite(), 0).abs().amax(dim=1)
            rows['exponent'] = (torch.frexp(largest).exponent - HALF_EXPONENT).clamp(min=MIN_EXPONENT).numpy()
        scaled = torch.from_numpy(-rows['exponent'])
        if self.top_k is None:
            rows['logits'] = torch.ldexp(logits, scaled[:, None]).numpy()
            return rows
        values, classes = logits.topk(self.top_k, dim=1)
        rest = logits.scatter(1, classes, -torch.inf).logsumexp(dim=1) - math.log(self.num_classes - self.top_k)
        rows['logits'], rows['classes'] = torch.ldexp(values, scaled[:, None]).numpy(), classes.numpy()
        rows['rest'] = torch.ldexp(rest, scaled).numpy()
        return rows

    def decode(self, rows: np.ndarray) -> Tensor:
        """Logits of shape ``(N, C)``, float32, on the CPU."""
        exponents = torch.from_numpy(rows['exponent'].astype(np.int32))
        logits = torch.ldexp(torch.from_numpy(rows['logits'].astype(np.float32)), exponents[:, None])
        if self.top_k is None:
            return logits
        rest = torch.ldexp(torch.from_numpy(rows['rest'].astype(np.float32)), exponents)
        whole = rest[:, None].repeat(1, self.num_classes)
        return whole.scatter_(1, torch.from_numpy(rows['classes'].astype(np.int64)), logits)


class LogitStore:
    """The logits that a student learns from, by view, round and image.

    Images and draws repeat after ``cycle`` epochs, the rounds, and so do the logits. In the first of them the teachers
    are run and the logits written; afterwards they are read. Each (view, round) is a file of rows, one for each image.
    A row holds a checksum of itself and the checksum of the input that its logits were made for. The teacher is asked
    again for a row that is torn, missing, or of another input. Any number of processes may write and read the same
    folder, each its own images, and another number may read it later.

    What decides the logits (teacher, pruner, pipeline, data, seed ...) decides the name of the store's own folder in
    ``folder``: a store is used for nothing else, and runs that differ can share ``folder``.

    Attributes:
        folder: The store's own folder, known once it is open.
        bytes_needed: Size of the whole store, known once it is open.
        num_changed: Number of images that were read so far and whose logits were made for another input.
        outdated: Folders of stores in ``folder`` that another version of this package wrote; they are not read.

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
        self.num_changed = 0
        self.outdated: list[Path] = []
        self._num_images = 0
        self._files: dict[tuple[str, int], _RowFile] = {}  # those that are open, the last one used at the end

    @property
    def is_complete(self) -> bool:
        """Return whether the open store holds all images of every round."""
        return _is_complete(self.description)

    @property
    def has_complete(self) -> bool:
        """Return whether any store in the root is complete, before it is known which is the right one."""
        return any(map(_is_complete, self._descriptions().values()))

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
            views: Names of the views.

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
        self._num_images = num_images
        self.bytes_needed = self._format.layout.itemsize * num_images * cycle * len(views)
        made_from = dict(made_from, format=str(self._format), images=str(num_images), cycle=str(cycle))
        descriptions = self._descriptions()
        self.outdated = [folder for folder, other in descriptions.items() if other.get('version') != VERSION]
        others = [other['made_from'] for folder, other in descriptions.items() if folder not in self.outdated]
        if made_from in others:
            differences = []
        else:
            differences = min((_differences(made_from, other) for other in others), key=len, default=[])
        described = dict(version=VERSION, made_from=made_from, cycle=cycle)
        self.folder = self.root / hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
        if is_main_process():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_space()
            if not _read_description(self.folder):
                self._write_description(dict(described, complete_rounds=[]))
        barrier()
        self.description = _read_description(self.folder)
        self._files.clear()
        return differences

    def read(self, view: str, number: int, images: Sequence[int], inputs: Sequence[int]) -> Tensor | None:
        """Logits ``(N, C)`` of ``images`` in round ``number``, float32, on the CPU; ``None`` unless all are there.

        Args:
            view: Name of the view.
            number: The round.
            images: Places in the data set.
            inputs: Checksum of the input of each image, in ``[0, 2**32)``.
        """
        rows, is_whole, is_changed = self._look_up(view, number, images, inputs)
        self.num_changed += int(is_changed.sum())
        return self._format.decode(rows) if (is_whole & ~is_changed).all() else None

    def count_changed(self, view: str, number: int, images: Sequence[int], inputs: Sequence[int]) -> int:
        """Number of ``images`` whose logits were made for another input; see :meth:`read` for the arguments."""
        return int(self._look_up(view, number, images, inputs)[2].sum())

    def write(self, view: str, number: int, images: Sequence[int], inputs: Sequence[int], logits: Tensor) -> None:
        """Keep ``logits`` of shape ``(N, C)``; see :meth:`read` for the other arguments."""
        places = np.asarray(images)
        rows = self._format.encode(logits)
        rows['input'] = np.asarray(inputs, np.uint32)
        rows['checksum'] = _checksums(rows, places)
        self._file(view, number).write(places, rows)

    def complete(self, number: int) -> None:
        """Note that all images of round ``number`` have been gone through. To be called on all ranks."""
        barrier()
        done = sorted({*self.description['complete_rounds'], number})
        if is_main_process() and done != self.description['complete_rounds']:
            self._write_description(dict(self.description, complete_rounds=done))
        self.description['complete_rounds'] = done

    def forget_rounds(self) -> None:
        """Note that no round is complete, because the images have changed. To be called on all ranks."""
        barrier()
        self.description['complete_rounds'] = []
        if is_main_process():
            self._write_description(self.description)

    def _look_up(
        self, view: str, number: int, images: Sequence[int], inputs: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of ``images``, which of them are whole, and which of these were made for another input."""
        places = np.asarray(images)
        rows = self._file(view, number).read(places)
        is_whole = (rows['checksum'] != 0) & (rows['checksum'] == _checksums(rows, places))
        return rows, is_whole, is_whole & (rows['input'] != np.asarray(inputs, np.uint32))

    def _file(self, view: str, number: int) -> _RowFile:
        """The open file of a view and round."""
        file = self._files.pop((view, number), None)
        if file is None:
            file = _RowFile(self.folder / f'{view}_{number:04d}.rows', self._format.layout, self._num_images)
            while len(self._files) >= MAX_OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
        self._files[view, number] = file
        return file

    def _descriptions(self) -> dict[Path, dict[str, Any]]:
        """The descriptions of all stores in the root, by folder."""
        folders = sorted(self.root.iterdir()) if self.root.is_dir() else []
        descriptions = {folder: _read_description(folder) for folder in folders}
        return {folder: description for folder, description in descriptions.items() if description}

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
    """Read the description of a store; empty if there is none, or a torn one."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        return {}
    return description if isinstance(description, dict) and 'made_from' in description else {}


def _is_complete(description: Mapping[str, Any]) -> bool:
    is_known = description.get('version') == VERSION
    return is_known and len(description.get('complete_rounds', ())) == description.get('cycle')


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class _RowFile:
    """Rows of one layout; sparse until they are written."""

    def __init__(self, path: Path, layout: np.dtype, num_rows: int) -> None:
        path.touch()
        if path.stat().st_size != layout.itemsize * num_rows:
            os.truncate(path, layout.itemsize * num_rows)
        self._file = path.open('r+b', buffering=0)
        self._map = np.memmap(path, layout, 'r', shape=num_rows)

    def read(self, places: np.ndarray) -> np.ndarray:
        return self._map[places]

    def write(self, places: np.ndarray, rows: np.ndarray) -> None:
        # not through the map: nodes that share a file system must not write each other's rows back with their pages
        for place, row in zip(places.tolist(), rows):
            os.pwrite(self._file.fileno(), row.tobytes(), place * rows.itemsize)

    def close(self) -> None:
        self._file.close()
        del self._map


def _checksums(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """CRC-32 of each row and its place, over all fields but the first; never 0, which marks a missing row."""
    content = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)[:, rows['checksum'].itemsize :]
    checksums = [zlib.crc32(row, place) or 1 for row, place in zip(content, (places + 1).tolist())]
    return np.array(checksums, np.uint32)
