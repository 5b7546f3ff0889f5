"""Export a student to a temporary folder, compare the export's logits with the student's, and rename the folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from r2kd_mm.engine.cli import readable_message
from r2kd_mm.export.card import model_card
from r2kd_mm.export.formats import FLOAT32, FORMATS, INT8, LOGITS, PROBABILITIES, require_packages
from r2kd_mm.export.graphs import DESCRIPTION, Predict
from r2kd_mm.export.images import calibration_images, validation_images
from r2kd_mm.export.licence import spdx_licence
from r2kd_mm.export.measurement import MAX_DROP, SCORED_IMAGES, Measurement, measure, other_kind, refusal
from r2kd_mm.export.network import ExportError
from r2kd_mm.export.preprocessing import Preprocessing
from r2kd_mm.export.quantization import CONVERTERS
from r2kd_mm.export.student import Student, load_student
from r2kd_mm.quantized import FakeQuantizedClassifier

# Share of the largest logit: float32 sums in another order differ by about 1e-6, a missing layer by about 1.
TOLERANCE = 1e-4
CARD = 'README.md'
GRAPHS = ('exported', 'executorch')  # formats of the graph that fake quantisation trains
# Share of the largest logit: a sum in another order can round to the next of 256 values.
LEARNED_TOLERANCE = 0.05


@dataclass(frozen=True)
class Exported:
    """Result of an export: its files, and how far its logits differ from the student's.

    Args:
        folder: Folder of the export.
        files: Names of its files, sorted.
        difference: Largest difference between the logits of the export in float32 and those of the student, divided by
            the student's largest logit; of the export in int8, if the student learned with fake quantisation.
        num_images: Number of real images on which these logits were compared.
        measured: Effect of a lower precision on accuracy, size and time; ``None`` in float32.

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
    normalise: bool = False,
    softmax: bool = False,
    licence: str | None = None,
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
        normalise: Normalise in the network, which then takes pixels from 0 to 255.
        softmax: Apply softmax in the network, which then gives probabilities.
        licence: For the card and ``export.json``, as SPDX calls it; ``None`` leaves it to the owner.

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
    licence = None if licence is None else spdx_licence(licence)
    require_packages(name, to_write=True, precision=precision)
    plain = load_student(checkpoint, config, images)
    student = plain.wrapped(normalise, softmax)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f'.{out.name}.{os.getpid()}.tmp')
    temporary.mkdir()
    try:
        description = dict(describe(student, name, precision, plain.preprocessing), license=licence)
        measured = None
        if isinstance(student.network.classifier, FakeQuantizedClassifier):
            predict, difference, measured = _convert(student, description, temporary)
        else:
            predict, difference = _write(student, description, temporary)
        if precision != FLOAT32 and measured is None:
            predict, measured = _lower(student, description, temporary, max_drop, calibration)
        card = model_card(student, description, predict, difference, Path(checkpoint).name, measured)
        (temporary / CARD).write_text(card, encoding='utf-8')
        files = tuple(sorted(path.name for path in temporary.iterdir()))
        temporary.rename(out)
    except BaseException:  # KeyboardInterrupt too
        shutil.rmtree(temporary)
        raise
    return Exported(out, files, difference, len(student.images), measured)


def describe(student: Student, name: str, precision: str, of_run: Preprocessing) -> dict[str, Any]:
    """Return the content of ``export.json``.

    Args:
        student: As it is exported.
        name: Name of the format.
        precision: Precision of the exported network.
        of_run: The preprocessing of the run, of which a part may be in the network.
    """
    prepared, network = student.preprocessing, student.network
    normalise = None if network.normalise is None else dict(mean=of_run.mean, std=of_run.std)
    softmax = network.softmax is not None
    return dict(
        format=name,
        precision=precision,
        input=dict(
            name='images',
            dtype='float32',
            shape=['N', *prepared.shape],
            values='normalised as under preprocessing' if normalise is None else 'pixels from 0 to 255',
            interpolation=prepared.interpolation,
        ),
        output=dict(name=PROBABILITIES if softmax else LOGITS, dtype='float32', shape=['N', len(student.classes)]),
        inside=dict(normalisation=normalise, softmax=softmax),
        preprocessing=prepared.describe(),
        classes=list(student.classes),
    )


def options_of(folder: Path) -> dict[str, Any]:
    """Return the arguments ``normalise``, ``softmax`` and ``licence`` that an export was made with.

    Exports of earlier versions had none.
    """
    stated = json.loads((folder / DESCRIPTION).read_text(encoding='utf-8'))
    inside = stated.get('inside') or {}
    return dict(
        normalise=inside.get('normalisation') is not None,
        softmax=inside.get('softmax', False),
        licence=stated.get('license'),
    )


def _write(student: Student, description: dict[str, Any], folder: Path) -> tuple[Predict, float]:
    """Write the network of float32; return it as it was read back, and its largest difference to the student."""
    name = description['format']
    with _naming_the_shape(student, name):
        FORMATS[name].write(student, description, folder)
    _write_description(description, folder)
    predict, difference = _read_back(student, name, folder)
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f'the {name} export does not say what the student says: on {len(student.images)} images their '
            f'{description["output"]["name"]} differ by '
            f'{difference:.1e} of the largest one, more than {TOLERANCE:.0e}; nothing was written. Take another format'
        )
    return predict, difference


def _read_back(student: Student, name: str, folder: Path) -> tuple[Predict, float]:
    """Load the network that was written; return it, and its difference to the student over the largest logit."""
    predict = FORMATS[name].load(folder)
    with torch.no_grad():
        expected, given = student.logits(), predict(student.images)
    return predict, ((given - expected).abs().max() / expected.abs().max()).item()


@contextmanager
def _naming_the_shape(student: Student, name: str) -> Iterator[None]:
    """Refuse a network that a format cannot take, with the shape of its images."""
    try:
        yield
    except (ExportError, ImportError, OSError):
        raise
    except Exception as error:  # whatever torch.export, ONNX and the quantisers raise
        reason = (readable_message(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f'the format {name} cannot take this network for images of shape {tuple(student.images.shape[1:])} '
            f'(channels, height, width) in batches of any size: {reason}; take another format'
        ) from error


def _convert(student: Student, description: dict[str, Any], folder: Path) -> tuple[Predict, float, Measurement]:
    """Write the int8 network of a student that learned with fake quantisation, and compare it with the student."""
    name, precision = description['format'], description['precision']
    if precision != INT8 or name not in GRAPHS:
        raise ExportError(
            f'this student learned with fake quantisation, to be written in {INT8} as {" or ".join(GRAPHS)}, got '
            f'{name} in {precision}; give --format {GRAPHS[0]} --precision {INT8}'
        )
    if student.network.normalise is not None or student.network.softmax is not None:
        raise ExportError(
            'this student learned with fake quantisation, without normalisation and softmax in its graph, and is '
            'written as it is; leave out --with-normalization and --with-softmax'
        )
    with _naming_the_shape(student, name):
        in_float32 = CONVERTERS[name, precision].convert(student, description, folder, None)
    predict, difference = _read_back(student, name, folder)
    if not difference <= LEARNED_TOLERANCE:  # NaN too
        raise ExportError(
            f'the {name} export in {precision} does not say what the student with fake quantisation says: their logits '
            f'differ by {difference:.1e} of the largest one, more than {LEARNED_TOLERANCE:g}; nothing was written'
        )
    weights = sum(4 * weight.numel() for weight in student.network.parameters())
    measured = measure(
        precision,
        {FLOAT32: student.network, precision: predict},
        validation_images(student, SCORED_IMAGES),
        {FLOAT32: weights, precision: network_bytes(folder)},
        in_float32=in_float32,
        notes=('float32 stands for the student as it was trained, with fake quantisation',),
    )
    # fake quantisation takes time that a network in float32 does not
    measured = replace(measured, milliseconds={precision: measured.milliseconds[precision]})
    return predict, difference, _add_measurement(measured, description, folder)


def _lower(
    student: Student, description: dict[str, Any], folder: Path, max_drop: float, calibration: str | os.PathLike | None
) -> tuple[Predict, Measurement]:
    """Replace the network of float32 in ``folder`` by one of lower precision; return it, and what that changes."""
    name, precision = description['format'], description['precision']
    converter = CONVERTERS[name, precision]
    seen = note = None
    if precision == INT8:
        seen = calibration_images(student, calibration)
        note = other_kind(seen, torch.cat([images for images, _ in validation_images(student, len(seen))]))
    with tempfile.TemporaryDirectory() as kept:
        float32 = Path(kept)
        shutil.copytree(folder, float32, dirs_exist_ok=True)
        with _naming_the_shape(student, name):
            in_float32 = converter.convert(student, description, folder, seen)
        folders = {FLOAT32: float32, precision: folder}
        networks = {key: FORMATS[name].load(place) for key, place in folders.items()}
        measured = measure(
            precision,
            networks,
            validation_images(student, SCORED_IMAGES),
            {key: network_bytes(place) for key, place in folders.items()},
            in_float32=in_float32,
            notes=() if note is None else (note,),
        )
        if not measured.drop(precision) <= max_drop:  # NaN too
            worst = converter.name_worst_layers(student, float32, folder, seen)
            raise ExportError(refusal(measured, precision, max_drop, worst))
    return networks[precision], _add_measurement(measured, description, folder)


def _add_measurement(measured: Measurement, description: dict[str, Any], folder: Path) -> Measurement:
    """Write what was measured into ``export.json`` and into the file of the network, whose size it changes."""
    add = FORMATS[description['format']].describe
    precision, size = description['precision'], -1
    while size != measured.bytes[precision]:  # the size itself is a part of it
        size = measured.bytes[precision]
        stated = dict(description, measured=measured.describe())
        if add is not None:
            add(stated, folder)
        _write_description(stated, folder)
        measured = replace(measured, bytes={**measured.bytes, precision: network_bytes(folder)})
    return measured


def _write_description(description: dict[str, Any], folder: Path) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')


def network_bytes(folder: Path) -> int:
    """Return the size of the files of the network in an export."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.name not in (DESCRIPTION, CARD))
