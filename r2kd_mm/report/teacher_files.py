"""Find the teacher checkpoints of a run, even if the run was moved or the working directory has changed."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r2kd_mm.checkpoint import digest_of_file
from r2kd_mm.report.trained_runs import TrainedRun

_MAIN = 'teacher'  # what a checkpoint calls the only teacher


def model_with_teachers(run: TrainedRun) -> dict[str, Any]:
    """Return the model config of a run, with the current paths of its teacher checkpoints.

    Raises:
        FileNotFoundError: A teacher checkpoint is not found, or its content differs from the file that the run read.
    """
    model = copy.deepcopy(run.config.model.to_dict())
    teacher = model.get('teacher')
    members = teacher.get('members') if isinstance(teacher, dict) else None
    for name, fields in (members or {_MAIN: model}).items():
        if isinstance(fields, dict) and fields.get('teacher_ckpt'):
            fields['teacher_ckpt'] = find_file(run, fields['teacher_ckpt'], run.teachers.get(name))
    return model


def find_file(run: TrainedRun, path: str, digest: str | None = None) -> str:
    """Find a file that a run has read. A place next to the run is tried first, since both may have been moved.

    Args:
        run: The run.
        path: The file, as the config of the run gives it; a URL stays as it is.
        digest: SHA-256 of the file that the run read; ``None`` where it is not known.

    Raises:
        FileNotFoundError: There is no such file, or only files of different content.
    """
    if '://' in path:
        return path
    found = [place for place in dict.fromkeys(_places(run, path)) if place.is_file()]
    for place in found:
        if digest is None or digest_of_file(str(place)) == digest:
            return str(place)
    if found:
        raise FileNotFoundError(
            f'{str(found[0])!r} is not the file that the run read as {path!r}: its content differs; put that one there'
        )
    raise FileNotFoundError(
        f'{path!r} is neither where the run read it, nor as far from {str(run.folder)!r} as it was then; put it there'
    )


def _places(run: TrainedRun, path: str) -> Iterator[Path]:
    """List the places where the file may be, likeliest first."""
    if os.path.isabs(path):
        work_dir = str(run.config.get('work_dir') or '')
        if os.path.isabs(work_dir):  # moved together with the run
            yield Path(os.path.normpath(run.folder / os.path.relpath(path, work_dir)))
    else:  # from the folder that the run was started in, which was above its own as a rule
        yield from (folder / path for folder in run.folder.resolve().parents)
    yield Path(path)
