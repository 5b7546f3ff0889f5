"""Define the options of ``r2kd-mm distill``, and check their values before torch and OpenMMLab are imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r2kd_mm.export.licence import spdx_licence
from r2kd_mm.photos.teachers import OWN, PUBLISHED, SHARED, AskedTeacher, absolute, check_teachers, for_each_teacher

AUTO = 'auto'
CPU, GPU = 'cpu', 'gpu'
# Files of configs/_base_/methods
METHODS = ('dist_light', 'r2kd_light', 'kd_light', 'r2kd', 'kd', 'kd_ls', 'dist', 'dkd', 'cmkd', 'mlkd')
# Those of r2kd_mm.export
FORMATS = ('mmpretrain', 'torch', 'safetensors', 'torchscript', 'exported', 'onnx', 'openvino', 'executorch')
PRECISIONS = {'int8': ('exported', 'onnx', 'openvino', 'executorch'), 'fp16': ('onnx', 'openvino')}  # their formats
# What may differ in a later call with the same folder, because no finished stage depends on it.
LOGGERS = {'tensorboard': 'Tensorboard', 'mlflow': 'MLflow', 'wandb': 'Wandb'}  # MMEngine's, and its names of them
FREE = (
    'loggers',
    'out',
    'seeds',
    'baseline',
    'formats',
    'precision',
    'with_normalization',
    'with_softmax',
    'license',
    'page',
    'jobs',
    'allow_duplicates',
)


@dataclass(frozen=True)
class Options:
    """Options of a call of ``r2kd-mm distill``; the command line has the same options.

    Args:
        data: Folder or table of photos, see :func:`~r2kd_mm.photos.folder.look_at_photos`.
        teacher: Name of the teacher, see :func:`~r2kd_mm.networks.find_network`; or a sequence of names. Then each
            option of the teacher may also be a sequence, with one value per teacher.
        student: Name of the student.
        out: Folder for all output.
        teacher_ckpt: Weights of a teacher already trained on these classes; ``None`` first trains it on the photos.
        teacher_classes: Text file with one class per line, in the order of a trained teacher's logits. Needed if the
            teacher has more classes than the photos, or another order.
        teacher_init: Initial weights of the teacher, if it is trained.
        student_init: Initial weights of the student.
        method: Distillation method; ``'auto'`` takes a method whose students were measured to be more accurate than
            the student alone.
        epochs: Number of epochs of each training.
        lr: Learning rate of the student; ``None`` takes the value of the recipe.
        teacher_lr: Learning rate of the teacher; ``None`` takes the value of the recipe.
        batch_size: Number of images per step, over all processes.
        image_size: Height and width of the student's images; ``None`` takes the size that its collection states.
        teacher_image_size: Height and width of the teacher's images; ``None`` takes the size of its collection.
        teacher_mean: Mean to normalise the teacher's images, per RGB channel, for pixels from 0 to 255; ``None`` takes
            the value of its collection or file.
        teacher_std: Standard deviation to normalise the teacher's images, per RGB channel.
        flip: Flip images horizontally at random in training.
        amp: Train in mixed precision.
        seeds: Number of student runs, each with its own random seed.
        baseline: Also train the student alone, without a teacher.
        val_split: Share of each class to split off for validation, if there is no validation folder.
        unlabelled: Folder of photos without labels, used only in the distillation; ``None`` looks for one in ``data``.
        unlabelled_share: Share of photos without labels in each batch of the distillation, if there are such photos.
        replay: Number of epochs after which images and their crops repeat. The teachers only run in these first epochs;
            later epochs read their stored logits. ``None`` runs the teachers in every epoch.
        loggers: Additional loggers, such as TensorBoard.
        formats: Export formats for the student.
        precision: Precision below float32, ``'int8'`` or ``'fp16'``, in which each format is written too; ``None`` for
            none.
        with_normalization: Include normalisation in the exported network, which then takes pixels from 0 to 255.
        with_softmax: Include softmax in the exported network, which then outputs probabilities.
        license: Licence of the exported student, as an SPDX identifier.
        page: Write an HTML page with figures.
        devices: ``'cpu'``, ``'gpu'`` for one GPU, or the number of processes that train each run together. Each process
            has its own GPU; without GPUs they use the CPU. ``None`` takes a GPU if there is one.
        jobs: Number of student runs at the same time.
        workers: Number of processes per run that load images.
        allow_duplicates: Accept images that are both in training and in validation.

    Raises:
        ValueError: An option is out of range or unknown.

    Example:
        >>> options = Options('photos', 'timm/resnet34', 'timm/resnet18', 'distilled', epochs=30)
        >>> options.method, options.batch_size
        ('auto', 32)
        >>> Options('photos', 'timm/resnet34', 'timm/resnet18', 'distilled', val_split=20)
        Traceback (most recent call last):
        ...
        ValueError: --val-split is a share of the images, above 0 and below 1, got 20
    """

    data: Path
    teacher: str | Sequence[str]
    student: str
    out: Path
    teacher_ckpt: str | Sequence[str | None] | None = None
    teacher_classes: str | Sequence[str | None] | None = None
    teacher_init: str | Sequence[str] = PUBLISHED
    student_init: str = PUBLISHED
    method: str = AUTO
    epochs: int = 60
    lr: float | None = None
    teacher_lr: float | Sequence[float | None] | None = None
    batch_size: int = 32
    image_size: int | None = None
    teacher_image_size: int | Sequence[int | None] | None = None
    teacher_mean: Sequence[float] | Sequence[Sequence[float] | None] | None = None
    teacher_std: Sequence[float] | Sequence[Sequence[float] | None] | None = None
    flip: bool = True
    amp: bool = False
    seeds: int = 1
    baseline: bool = True
    val_split: float = 0.2
    unlabelled: Path | None = None
    unlabelled_share: float = 0.5
    replay: int | None = None
    loggers: tuple[str, ...] = ()
    formats: tuple[str, ...] = ('torchscript',)
    precision: str | None = None
    with_normalization: bool = False
    with_softmax: bool = False
    license: str | None = None
    page: bool = True
    devices: str | int | None = None
    jobs: int = 1
    workers: int = 2
    allow_duplicates: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, 'data', Path(self.data))
        object.__setattr__(self, 'out', Path(self.out))
        object.__setattr__(self, 'unlabelled', None if self.unlabelled is None else Path(self.unlabelled))
        object.__setattr__(self, 'formats', tuple(self.formats))
        object.__setattr__(self, 'loggers', tuple(self.loggers))
        names = (self.teacher,) if isinstance(self.teacher, str) else tuple(self.teacher)
        object.__setattr__(self, 'teacher', names[0] if len(names) == 1 else names)
        for name in (*OWN, *SHARED):
            object.__setattr__(self, name, for_each_teacher(name, getattr(self, name), len(names)))
        for name in ('teacher', 'student', 'teacher_ckpt', 'teacher_classes', 'teacher_init', 'student_init'):
            given = getattr(self, name)
            found = tuple(map(absolute, given)) if isinstance(given, tuple) else absolute(given)
            object.__setattr__(self, name, found)
        check_teachers(self.teachers)
        for name, least in dict(epochs=1, batch_size=2, replay=1, seeds=1, jobs=1, workers=0).items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f'{flag_of(name)} must be at least {least}, got {value}')
        for name in ('image_size', 'lr'):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f'{flag_of(name)} must be above 0, got {value}')
        if not 0 < self.val_split < 1:
            raise ValueError(f'--val-split is a share of the images, above 0 and below 1, got {self.val_split}')
        if not 0 < round(self.unlabelled_share * self.batch_size) < self.batch_size:
            raise ValueError(
                f'--unlabelled-share is a share of the {self.batch_size} images of a batch, with at least one image of '
                f'each kind, got {self.unlabelled_share}'
            )
        if self.license is not None:
            object.__setattr__(self, 'license', spdx_licence(self.license))
        if self.method not in (AUTO, *METHODS):
            raise ValueError(f'--method must be one of {", ".join((AUTO, *METHODS))}, got {self.method!r}')
        object.__setattr__(self, 'devices', _devices(self.devices))
        count = self.processes
        each = self.batch_size // count
        if self.batch_size % count or each < 2:
            raise ValueError(
                f'--batch-size {self.batch_size} is that of all processes: --devices {count} must divide it, and leave '
                'at least 2 images to each'
            )
        if count > 1 and self.jobs > 1:
            raise ValueError(
                f'--devices {count} and --jobs {self.jobs}: runs at the same time would share the devices; give one of '
                'the two'
            )
        for name in self.loggers:
            if name not in LOGGERS:
                raise ValueError(f'--logger must be one of {", ".join(LOGGERS)}, got {name!r}')
        for name in self.formats:
            if name not in FORMATS:
                raise ValueError(f'--format must be one of {", ".join(FORMATS)}, got {name!r}')
        if self.precision is not None:
            if self.precision not in PRECISIONS:
                raise ValueError(f'--precision must be one of {", ".join(PRECISIONS)}, got {self.precision!r}')
            without = [name for name in self.formats if name not in PRECISIONS[self.precision]]
            if without or not self.formats:
                raise ValueError(
                    f'--precision {self.precision} is one of the formats {", ".join(PRECISIONS[self.precision])}, got '
                    f'--format {" ".join(without)}; give some of these formats, or leave out --precision'
                )
        if 'mmpretrain' in self.formats and (self.with_normalization or self.with_softmax):
            raise ValueError(
                '--format mmpretrain has normalisation and softmax in its config, outside of the network; leave out '
                '--with-normalization and --with-softmax, or this format'
            )

    @property
    def processes(self) -> int:
        """Return the number of processes that train a run together."""
        return self.devices if isinstance(self.devices, int) else 1

    @property
    def teachers(self) -> tuple[AskedTeacher, ...]:
        """Return what is asked of each teacher."""
        fields = ('teacher', *(f'teacher_{field.name}' for field in dataclasses.fields(AskedTeacher)[1:]))
        values = [getattr(self, name) for name in fields]
        if isinstance(self.teacher, str):
            return (AskedTeacher(*values),)
        return tuple(AskedTeacher(*of_one) for of_one in zip(*values))

    @property
    def identity(self) -> dict[str, Any]:
        """Return the options that decide the results, as JSON takes them."""
        found = {name: value for name, value in asdict(self).items() if name not in FREE}
        unlabelled = None if self.unlabelled is None else str(self.unlabelled.resolve())
        devices = self.processes if self.processes > 1 else None  # the kind of a device does not make another run
        return dict(found, devices=devices, data=str(self.data.resolve()), unlabelled=unlabelled)


def _devices(given: str | int | None) -> str | int | None:
    """A number where it is written as one.

    Raises:
        ValueError: It is neither a kind of device nor a number of processes.
    """
    number = int(given) if isinstance(given, str) and given.isdecimal() else given
    if number is None or number in (CPU, GPU) or (isinstance(number, int) and number >= 1):
        return number
    raise ValueError(f'--devices must be {CPU}, {GPU} or a number of processes, at least 1, got {given!r}')


def flag_of(name: str) -> str:
    """Return the option of the command line for a field of :class:`Options`."""
    return f'--{name.replace("_", "-")}'
