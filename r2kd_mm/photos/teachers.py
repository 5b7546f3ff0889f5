"""Assign the ``--teacher-*`` options to one or several teachers, without importing torch or OpenMMLab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAIN, NONE, PUBLISHED = 'teacher', 'none', 'published'
# The options with a value for each teacher. One value of these would be wrong for the others.
OWN = ('teacher_ckpt', 'teacher_classes', 'teacher_mean', 'teacher_std')
SHARED = ('teacher_init', 'teacher_lr', 'teacher_image_size')
VECTORS = ('teacher_mean', 'teacher_std')
CHANNELS = 3


@dataclass(frozen=True)
class AskedTeacher:
    """Options of one teacher, called ``teacher`` or ``teacher_*`` in :class:`~r2kd_mm.photos.options.Options`."""

    network: str
    ckpt: str | None = None
    classes: str | None = None
    init: str = PUBLISHED
    lr: float | None = None
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def for_each_teacher(field: str, given: Any, count: int) -> Any:
    """Return the value of an option for one teacher, or a tuple with one value for each of several.

    Args:
        field: One of :data:`OWN` or :data:`SHARED`.
        given: One value or a sequence of values; a mean and a deviation are sequences themselves.
        count: Number of the teachers.

    Raises:
        ValueError: There are more or fewer values than teachers.

    Example:
        >>> for_each_teacher('teacher_lr', 0.1, count=1), for_each_teacher('teacher_lr', 0.1, count=2)
        (0.1, (0.1, 0.1))
        >>> for_each_teacher('teacher_ckpt', ['a.pth', 'none'], count=2)
        ('a.pth', None)
    """
    values = tuple(given) if _is_several(field, given) else (given,)
    if values == (None,) or (field in SHARED and len(values) == 1):
        values *= count
    if len(values) != count:
        shared = ', or once for all' if field in SHARED else ''
        absent = f'; write {NONE!r} where a teacher has no such file' if field in OWN and field not in VECTORS else ''
        raise ValueError(
            f'--{field.replace("_", "-")} is given {len(values)} times for {count} teachers; give it once for each, in '
            f'the order of --teacher{shared}{absent}'
        )
    if field in VECTORS:
        values = tuple(None if value is None else tuple(value) for value in values)
    elif field in OWN:
        values = tuple(None if value == NONE else value for value in values)
    return values[0] if count == 1 else values


def _is_several(field: str, given: Any) -> bool:
    if given is None or isinstance(given, str) or not isinstance(given, Sequence):
        return False
    return field not in VECTORS or any(value is None or isinstance(value, Sequence) for value in given)


def absolute(given: str | None) -> str | None:
    """A local file, or the folder of ``hf/FOLDER``, by its absolute path; anything else as it is given."""
    if given is None or given in (NONE, PUBLISHED):
        return given
    library, _, folder = given.partition('/')
    if library == 'hf':
        path = Path(folder).expanduser()
        return f'hf/{path.resolve()}' if path.is_dir() else given
    name, mark, part = given.partition('#')
    path = Path(name).expanduser()
    is_local = path.is_file() or (path / 'export.json').is_file()
    return f'{path.resolve()}{mark}{part}' if is_local else given


def check_teachers(teachers: Sequence[AskedTeacher]) -> None:
    """Refuse values that are out of range, and a teacher that is asked for twice.

    Raises:
        ValueError: There is such a value or teacher, or none at all.
    """
    if not teachers:
        raise ValueError('--teacher must name at least one network, got none')
    for number, teacher in enumerate(teachers):
        for name in ('image_size', 'lr'):
            value = getattr(teacher, name)
            if value is not None and value <= 0:
                raise ValueError(f'--teacher-{name.replace("_", "-")} must be above 0, got {value}')
        mean, std = teacher.mean, teacher.std
        sizes = {len(values) for values in (mean, std) if values is not None}
        if (mean is None) != (std is None) or sizes - {CHANNELS} or (std and min(std) <= 0):
            raise ValueError(
                '--teacher-mean and --teacher-std belong together, three numbers each in units of 0 to 255, and the '
                f'latter above 0, got {mean} and {std}'
            )
        if teacher in teachers[:number]:
            raise ValueError(
                f'--teacher {teacher.network} is given twice with the same weights and inputs, so the second teaches '
                'nothing new; leave it out, or give it another --teacher-ckpt or --teacher-init'
            )
