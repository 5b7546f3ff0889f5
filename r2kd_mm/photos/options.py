"""Check what a user asks of ``r2kd-mm distill``, before the stack is imported."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

AUTO = 'auto'
# Files of configs/_base_/methods
METHODS = ('dist_light', 'r2kd_light', 'kd_light', 'r2kd', 'kd', 'kd_ls', 'dist', 'dkd', 'cmkd', 'mlkd')
FORMATS = ('mmpretrain', 'torch', 'safetensors', 'torchscript', 'exported', 'onnx', 'openvino')  # of r2kd_mm.export
INITIAL = "'none' for random weights, 'published', or a checkpoint file"
# What may differ in a later call with the same folder, because no finished stage depends on it.
LOGGERS = {'tensorboard': 'Tensorboard', 'mlflow': 'MLflow', 'wandb': 'Wandb'}  # MMEngine's, and its names of them
FREE = ('loggers', 'out', 'seeds', 'baseline', 'formats', 'page', 'jobs', 'allow_duplicates')


@dataclass(frozen=True)
class Options:
    """The options of a call; the command line has the same ones.

    Args:
        data: Folder or table of photos, see :func:`~r2kd_mm.photos.folder.look_at_photos`.
        teacher: Name of the teacher, see :func:`~r2kd_mm.networks.find_network`.
        student: Name of the student.
        out: Folder for all that is written.
        teacher_ckpt: Weights of a teacher that knows these classes already; ``None`` trains it on the photos first.
        teacher_classes: Text file with one class a line, in the order of the logits of a trained teacher, where these
            are more than the classes of the photos or in another order.
        teacher_init: What the teacher starts from where it is trained.
        student_init: What the student starts from.
        method: How the student learns from the teacher; ``'auto'`` takes what was measured to stay
            above the student alone.
        epochs: Length of each training.
        lr: Learning rate of the student; ``None`` takes that of the recipe.
        teacher_lr: Learning rate of the teacher; ``None`` takes that of the recipe.
        batch_size: Images a step.
        image_size: Side of the student's images; ``None`` takes that which its collection states.
        teacher_image_size: The same of the teacher.
        teacher_mean: Mean of the teacher's pixels, for each channel in RGB, in units of 0 to 255; ``None`` takes what
            its collection or its file states.
        teacher_std: Their standard deviation.
        flip: Mirror pictures in training.
        amp: Mixed precision.
        seeds: Number of runs of the student, each with another seed.
        baseline: Train the student alone too.
        val_split: Share of each class that is set aside where there is no validation folder.
        unlabelled: Folder of photos without labels, for the distillation alone; ``None`` takes those among ``data``.
        unlabelled_share: Their share in a batch of the distillation, where there are any.
        loggers: Where each run is shown too.
        formats: What the student is exported to.
        page: Write a page with figures.
        jobs: Runs of the student at a time.
        workers: Processes that load images, in each run.
        allow_duplicates: Accept images that are in both parts.

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
    teacher: str
    student: str
    out: Path
    teacher_ckpt: str | None = None
    teacher_classes: str | None = None
    teacher_init: str = 'published'
    student_init: str = 'published'
    method: str = AUTO
    epochs: int = 60
    lr: float | None = None
    teacher_lr: float | None = None
    batch_size: int = 32
    image_size: int | None = None
    teacher_image_size: int | None = None
    teacher_mean: tuple[float, ...] | None = None
    teacher_std: tuple[float, ...] | None = None
    flip: bool = True
    amp: bool = False
    seeds: int = 1
    baseline: bool = True
    val_split: float = 0.2
    unlabelled: Path | None = None
    unlabelled_share: float = 0.5
    loggers: tuple[str, ...] = ()
    formats: tuple[str, ...] = ('torchscript',)
    page: bool = True
    jobs: int = 1
    workers: int = 2
    allow_duplicates: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, 'data', Path(self.data))
        object.__setattr__(self, 'out', Path(self.out))
        object.__setattr__(self, 'unlabelled', None if self.unlabelled is None else Path(self.unlabelled))
        object.__setattr__(self, 'formats', tuple(self.formats))
        object.__setattr__(self, 'loggers', tuple(self.loggers))
        for name in ('teacher_mean', 'teacher_std'):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        for name in ('teacher', 'student', 'teacher_ckpt', 'teacher_classes', 'teacher_init', 'student_init'):
            object.__setattr__(self, name, _absolute(getattr(self, name)))
        for name, least in dict(epochs=1, batch_size=2, seeds=1, jobs=1, workers=0).items():
            if getattr(self, name) < least:
                raise ValueError(f'{_flag(name)} must be at least {least}, got {getattr(self, name)}')
        for name in ('image_size', 'teacher_image_size', 'lr', 'teacher_lr'):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f'{_flag(name)} must be above 0, got {value}')
        if not 0 < self.val_split < 1:
            raise ValueError(f'--val-split is a share of the images, above 0 and below 1, got {self.val_split}')
        if not 0 < round(self.unlabelled_share * self.batch_size) < self.batch_size:
            raise ValueError(
                f'--unlabelled-share is a share of the {self.batch_size} images of a batch, with at least one image of '
                f'each kind, got {self.unlabelled_share}'
            )
        if self.method not in (AUTO, *METHODS):
            raise ValueError(f'--method must be one of {", ".join((AUTO, *METHODS))}, got {self.method!r}')
        for name in self.loggers:
            if name not in LOGGERS:
                raise ValueError(f'--logger must be one of {", ".join(LOGGERS)}, got {name!r}')
        for name in self.formats:
            if name not in FORMATS:
                raise ValueError(f'--format must be one of {", ".join(FORMATS)}, got {name!r}')
        mean, std = self.teacher_mean, self.teacher_std
        if (mean is None) != (std is None) or (std and (len(std) != 3 or len(mean or ()) != 3 or min(std) <= 0)):
            raise ValueError(
                '--teacher-mean and --teacher-std belong together, three numbers each in units of 0 to 255, and the '
                f'latter above 0, got {mean} and {std}'
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Return the options that decide the results, as JSON takes them."""
        found = {name: value for name, value in asdict(self).items() if name not in FREE}
        unlabelled = None if self.unlabelled is None else str(self.unlabelled.resolve())
        return dict(found, data=str(self.data.resolve()), unlabelled=unlabelled)


def _absolute(given: str | None) -> str | None:
    """A local file, or the folder of ``hf/FOLDER``, by its absolute path; anything else as it is given."""
    if given is None or given in ('none', 'published'):
        return given
    library, _, folder = given.partition('/')
    if library == 'hf':
        path = Path(folder).expanduser()
        return f'hf/{path.resolve()}' if path.is_dir() else given
    name, mark, part = given.partition('#')
    path = Path(name).expanduser()
    is_local = path.is_file() or (path / 'export.json').is_file()
    return f'{path.resolve()}{mark}{part}' if is_local else given


def _flag(name: str) -> str:
    return f'--{name.replace("_", "-")}'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; their defaults are those of :class:`Options`."""
    defaults = {field.name: field.default for field in fields(Options)}

    def add(name: str, help: str, **settings: Any) -> None:
        value = defaults[name]
        shown = '' if value is None or value is False else f' (default: {value})'
        parser.add_argument(_flag(name), default=value, help=help + shown, **settings)

    parser.add_argument(
        'data',
        type=Path,
        metavar='PHOTOS',
        help='folder with train/<class>/ and val/<class>/, or with <class>/ alone, of which a part is set aside; or a '
        'table with the columns path,label[,split]',
    )
    names = 'timm/NAME, mmpretrain/NAME, torchvision/NAME, hf/FOLDER, r2kd/NAME, a config NAME.py or module:function'
    trained = ', or a trained NAME.pt (TorchScript, whose code is run), NAME.onnx or folder of an export'
    parser.add_argument('--teacher', required=True, metavar='NAME', help=names + trained)
    parser.add_argument('--student', required=True, metavar='NAME', help=names)
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder for all that is written')
    add('teacher_ckpt', 'trained weights of the teacher, which is then not fine-tuned', metavar='FILE')
    add('teacher_classes', 'text file with the classes of these weights, one a line', metavar='FILE')
    add('teacher_init', f'what the teacher is fine-tuned from: {INITIAL}', metavar='WEIGHTS')
    add('student_init', f'what the student starts from: {INITIAL}', metavar='WEIGHTS')
    add('method', 'how the student learns', choices=(AUTO, *METHODS))
    add('epochs', 'length of each training', type=int, metavar='N')
    add('lr', 'learning rate of the student; of the recipe by default', type=float)
    add('teacher_lr', 'learning rate of the teacher; of the recipe by default', type=float, metavar='LR')
    add('batch_size', 'images a step', type=int, metavar='N')
    add('image_size', 'side of the images of the student; its own by default', type=int, metavar='PIXELS')
    add('teacher_image_size', 'side of the images of the teacher; its own by default', type=int, metavar='PIXELS')
    for name, what in (('teacher_mean', 'mean'), ('teacher_std', 'standard deviation')):
        of = f'{what} of its pixels in RGB, 0 to 255; stated ones by default'
        add(name, of, type=float, nargs=3, metavar=('R', 'G', 'B'))
    add('seeds', 'runs of the student, each with another seed', type=int, metavar='N')
    add('val_split', 'share of each class that is set aside where there is no val folder', type=float, metavar='SHARE')
    add('unlabelled', 'folder of photos without labels, for the distillation', type=Path, metavar='DIR')
    add('unlabelled_share', 'their share in a batch of the distillation', type=float, metavar='SHARE')
    add('jobs', 'runs of the student at a time', type=int, metavar='N')
    add('workers', 'processes that load images, in each run', type=int, metavar='N')
    parser.add_argument(
        '--logger',
        dest='loggers',
        nargs='+',
        choices=LOGGERS,
        default=defaults['loggers'],
        help='where each run is shown too; its package must be installed',
    )
    parser.add_argument(
        '--format',
        dest='formats',
        nargs='*',
        choices=FORMATS,
        default=defaults['formats'],
        help=f'what the student is exported to (default: {" ".join(Options.formats)})',
    )
    add('amp', 'mixed precision', action='store_true')
    add('allow_duplicates', 'accept images that are in both parts', action='store_true')
    for name, help in (
        ('flip', 'do not mirror pictures in training'),
        ('baseline', 'do not train the student alone'),
        ('page', 'write no page with figures'),
    ):
        parser.add_argument(f'--no-{name}', dest=name, action='store_false', help=help)
