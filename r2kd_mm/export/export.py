"""Write an export completely or not at all, after its logits were compared with the student's."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r2kd_mm.export.card import model_card
from r2kd_mm.export.formats import DESCRIPTION, FLOAT32, FORMATS, INT8, Predict, require_packages
from r2kd_mm.export.images import calibration_images, validation_images
from r2kd_mm.export.measurement import MAX_DROP, SCORED_IMAGES, Measurement, measure, other_kind, refusal
from r2kd_mm.export.network import ExportError
from r2kd_mm.export.quantization import CONVERTERS, onnx_in_float32, onnx_worst_layers
from r2kd_mm.export.student import Student, load_student

# Share of the largest logit: float32 sums in another order differ by about 1e-6, a missing layer by about 1.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Args:
        folder: Folder of the export.
        files: Names of its files, sorted.
        difference: Largest difference between the logits of the export in float32 and those of the student, divided by
            the student's largest logit.
        num_images: Number of real images on which they were compared.
        measured: What a lower precision changes; ``None`` in float32.

    Example:
        >>> made = export_student('work_dirs/R2KD/seed_0/epoch_1.pth', 'for_torch', 'torch')
        >>> made.files, made.difference < TOLERANCE
        (('README.md', 'export.json', 'network.py', 'weights.pth'), True)
    """

    folder: Path
    files: tuple[str, ...]
    difference: float
    num_images: int
    measured: Measurement | None = None


def export_student(
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    name: str,
    config: str | os.PathLike | None = None,
    images: str | os.PathLike | None = None,
    precision: str = FLOAT32,
    max_drop: float = MAX_DROP,
    calibration: str | os.PathLike | None = None,
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
        precision: ``'float32'``, or one of the format's ``precisions``: ``'fp16'``, ``'int8'``. The network is first
            written and checked in float32. Then both are measured on :data:`SCORED_IMAGES` validation images.
        max_drop: How many points of accuracy a lower precision may cost.
        calibration: Folder of images from which ``'int8'`` takes the range of each layer; ``None`` takes the training
            data of the run.

    Raises:
        FileExistsError: ``out`` exists.
        ImportError: A package that the format needs is missing.
        ExportError: The network cannot be exported in this format, the logits in float32 differ by more than
            :data:`TOLERANCE`, or the lower precision costs more than ``max_drop``.
        ValueError: ``calibration`` is given without ``'int8'``; or see :func:`load_student`.

    Example:
        >>> made = export_student('work_dirs/R2KD/seed_0/epoch_1.pth', 'for_anyone', 'torchscript')
        >>> made.folder, made.files
        (PosixPath('for_anyone'), ('README.md', 'export.json', 'model.pt'))
    """
    out = Path(out)
    if name not in FORMATS:
        raise ValueError(f'the format must be one of {", ".join(FORMATS)}, got {name!r}')
    known = (FLOAT32, *FORMATS[name].precisions)
    if precision not in known:
        raise ValueError(f'the precision of the format {name} must be one of {", ".join(known)}, got {precision!r}')
    if out.exists():
        raise FileExistsError(f'{str(out)!r} exists; give another folder, or remove it')
    if calibration is not None and precision != INT8:
        raise ValueError(f'--calibration-images is for --precision {INT8}, got --precision {precision}; leave it out')
    require_packages(name, to_write=True, precision=precision)
    student = load_student(checkpoint, config, images)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f'.{out.name}.{os.getpid()}.tmp')
    temporary.mkdir()
    try:
        description = describe(student, name, precision)
        predict, difference = _write(student, description, temporary)
        measured = None
        if precision != FLOAT32:
            predict, measured = _lower(student, description, temporary, max_drop, calibration)
        card = model_card(student, name, predict, difference, Path(checkpoint).name, precision, measured)
        (temporary / 'README.md').write_text(card, encoding='utf-8')
        files = tuple(sorted(path.name for path in temporary.iterdir()))
        temporary.rename(out)
    except BaseException:  # KeyboardInterrupt too
        shutil.rmtree(temporary)
        raise
    return Exported(out, files, difference, len(student.images), measured)


def describe(student: Student, name: str, precision: str = FLOAT32) -> dict[str, Any]:
    """Return the content of ``export.json``."""
    return dict(
        format=name,
        precision=precision,
        input=dict(name='images', dtype='float32', shape=['N', *student.preprocessing.shape]),
        output=dict(name='logits', dtype='float32', shape=['N', len(student.classes)]),
        preprocessing=student.preprocessing.describe(),
        classes=list(student.classes),
    )


def _write(student: Student, description: dict[str, Any], folder: Path) -> tuple[Predict, float]:
    """Write the network of float32; return it as it was read back, and its largest difference to the student."""
    name = description['format']
    FORMATS[name].write(student, description, folder)
    _write_description(description, folder)
    predict = FORMATS[name].load(folder)
    with torch.no_grad():
        expected, given = student.logits(), predict(student.images)
    difference = ((given - expected).abs().max() / expected.abs().max()).item()
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f'the {name} export does not say what the student says: on {len(expected)} images their logits differ by '
            f'{difference:.1e} of the largest one, more than {TOLERANCE:.0e}; nothing was written. Take another format'
        )
    return predict, difference


def _lower(
    student: Student, description: dict[str, Any], folder: Path, max_drop: float, calibration: str | os.PathLike | None
) -> tuple[Predict, Measurement]:
    """Replace the network of float32 in ``folder`` by one of lower precision; return it, and what that changes."""
    name, precision = description['format'], description['precision']
    names_layers = (name, precision) == ('onnx', INT8)
    seen = note = None
    if precision == INT8:
        seen = calibration_images(student, calibration)
        note = other_kind(seen, torch.cat([images for images, _ in validation_images(student, len(seen))]))
    with tempfile.TemporaryDirectory() as kept:
        float32 = Path(kept)
        shutil.copytree(folder, float32, dirs_exist_ok=True)
        CONVERTERS[name, precision](student, description, folder, seen)
        folders = {FLOAT32: float32, precision: folder}
        networks = {key: FORMATS[name].load(place) for key, place in folders.items()}
        measured = measure(
            precision,
            networks,
            validation_images(student, SCORED_IMAGES),
            {key: _network_bytes(place) for key, place in folders.items()},
            in_float32=onnx_in_float32(folder) if names_layers else (),
            notes=() if note is None else (note,),
        )
        if not measured.drop(precision) <= max_drop:  # NaN too
            worst = onnx_worst_layers(float32, folder, student.images) if names_layers else []
            raise ExportError(refusal(measured, precision, max_drop, worst))
    _write_description(dict(description, measured=measured.describe()), folder)
    return networks[precision], measured


def _write_description(description: dict[str, Any], folder: Path) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')


def _network_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.name != DESCRIPTION)
