"""Write an export completely or not at all, after its logits were compared with the student's."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r2kd_mm.export.card import model_card
from r2kd_mm.export.formats import DESCRIPTION, FORMATS, require_packages
from r2kd_mm.export.network import ExportError
from r2kd_mm.export.student import Student, load_student

# Share of the largest logit: float32 sums in another order differ by about 1e-6, a missing layer by about 1.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Args:
        folder: Folder of the export.
        files: Names of its files, sorted.
        difference: Largest difference between a logit of the export and of the student, over the largest logit.
        num_images: Number of real images on which they were compared.
    """

    folder: Path
    files: tuple[str, ...]
    difference: float
    num_images: int


def export_student(
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    name: str,
    config: str | os.PathLike | None = None,
    images: str | os.PathLike | None = None,
) -> Exported:
    """Export the student in a checkpoint to a folder that does not need this package.

    The folder holds the network, ``export.json`` with the preprocessing and the classes, and a model card,
    ``README.md``. The folder gets its name only after the network was read back and compared on real images.

    Args:
        checkpoint: Checkpoint of a run, with or without a teacher.
        out: Folder to make.
        name: One of :data:`FORMATS`.
        config: Config file of the run; ``None`` takes the config in the checkpoint.
        images: Folder of images for the comparison; ``None`` takes the validation data of the run.

    Raises:
        FileExistsError: ``out`` exists.
        ImportError: A package that the format needs is missing.
        ExportError: The network cannot be exported in this format, or the logits differ by more than
            :data:`TOLERANCE`.
        ValueError: See :func:`load_student`.
    """
    out = Path(out)
    if name not in FORMATS:
        raise ValueError(f'the format must be one of {", ".join(FORMATS)}, got {name!r}')
    if out.exists():
        raise FileExistsError(f'{str(out)!r} exists; give another folder, or remove it')
    require_packages(name, to_write=True)
    student = load_student(checkpoint, config, images)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f'.{out.name}.{os.getpid()}.tmp')
    temporary.mkdir()
    try:
        difference = _write(student, name, temporary, Path(checkpoint).name)
        files = tuple(sorted(path.name for path in temporary.iterdir()))
        temporary.rename(out)
    except BaseException:  # KeyboardInterrupt too
        shutil.rmtree(temporary)
        raise
    return Exported(out, files, difference, len(student.images))


def describe(student: Student, name: str) -> dict[str, Any]:
    """Return the content of ``export.json``."""
    return dict(
        format=name,
        input=dict(name='images', dtype='float32', shape=['N', *student.preprocessing.shape]),
        output=dict(name='logits', dtype='float32', shape=['N', len(student.classes)]),
        preprocessing=student.preprocessing.describe(),
        classes=list(student.classes),
    )


def _write(student: Student, name: str, folder: Path, checkpoint: str) -> float:
    description = describe(student, name)
    FORMATS[name].write(student, description, folder)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
    predict = FORMATS[name].load(folder)
    with torch.no_grad():
        expected, given = student.logits(), predict(student.images)
    difference = ((given - expected).abs().max() / expected.abs().max()).item()
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f'the {name} export does not say what the student says: on {len(expected)} images their logits differ by '
            f'{difference:.1e} of the largest one, more than {TOLERANCE:.0e}; nothing was written. Take another format'
        )
    card = model_card(student, name, predict, difference, checkpoint)
    (folder / 'README.md').write_text(card, encoding='utf-8')
    return difference
