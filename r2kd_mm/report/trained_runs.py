"""Find finished training runs in folders, group them by method, and read their configs and logged scalars."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.engine.resume import POINTER
from r2kd_mm.engine.train_loop import has_stopped_early
from r2kd_mm.runs.logs import SCALARS, logged_rows
from r2kd_mm.runs.state import images_of
from r2kd_mm.teachers.build import RECORD_KEY

_SEED_SUFFIX = re.compile(r'(?:^|[-_])seed[-_]?\d+$')
_COMPARED_RUN = re.compile(r'(.+), seed \d+')  # the experiment_name that tools/compare.py gives


class RunError(ValueError):
    """Error: the given folders of trained runs cannot be analysed.

    Example:
        >>> find_groups(['photos'])
        Traceback (most recent call last):
        ...
        r2kd_mm.report.trained_runs.RunError: 'photos' is not a run and holds none: ...
    """


@dataclass(frozen=True)
class Series:
    """One logged scalar: ``values[i]`` at ``steps[i]``, ascending; iterations while training, epochs for validation."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Args:
        folder: Work dir of the run.
        seed: Seed of the run; ``None`` where its config has none.
        config: Config of the run.
        checkpoint: Checkpoint after the last epoch.
        scalars: Name to logged scalar.
        val_data: Fingerprint of the validation data; empty without a ``RunRecordHook``.
        unreadable_lines: Number of lines of the log that could not be read.
        teachers: Name to SHA-256 of the file of each teacher; empty without a ``RunRecordHook``.

    Example:
        >>> run = find_groups(['work_dirs/KD'])[0].runs[0]
        >>> run.seed, run.checkpoint.name, run.scalars['accuracy/top1'].steps
        (0, 'epoch_1.pth', array([1]))
    """

    folder: Path
    seed: int | None
    config: Config
    checkpoint: Path
    scalars: Mapping[str, Series]
    val_data: Mapping[str, Any] = field(default_factory=dict)
    unreadable_lines: int = 0
    teachers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunGroup:
    """The runs of one method, a seed each.

    Example:
        >>> group = find_groups(['work_dirs'])[1]
        >>> group.name, len(group.runs), group.config.model.teacher_ckpt
        ('R2KD', 1, 'teacher/epoch_2.pth')
    """

    name: str
    runs: list[TrainedRun] = field(default_factory=list)

    @property
    def config(self) -> Config:
        """The config of the first run; the other configs differ in their seeds."""
        return self.runs[0].config


def find_groups(paths: Sequence[str | Path], names: Sequence[str] | None = None) -> list[RunGroup]:
    """Find the runs in ``paths`` and group them by method.

    Folders next to each other whose names differ by ``seed_<n>`` are one method.

    Args:
        paths: Work dirs of ``tools/train.py``, run folders of ``tools/compare.py``, or folders that hold them.
        names: Names of the groups, in the order in which they are found. By default the names of the folders, or the
            names that ``tools/compare.py`` gave.

    Raises:
        RunError: A folder is not a run, a run is not finished, two groups would have one name, a seed comes twice, or
            the runs were validated on different data.

    Example:
        >>> [group.name for group in find_groups(['work_dirs'])]
        ['KD', 'R2KD']
    """
    folders = list(dict.fromkeys(folder.resolve() for path in paths for folder in _find_folders(Path(path))))
    groups: dict[tuple[Path, str], RunGroup] = {}
    for folder in folders:
        run = read_run(folder)
        stem = _SEED_SUFFIX.sub('', folder.name)
        key = (folder.parent, stem)
        called = _COMPARED_RUN.fullmatch(str(run.config.get('experiment_name')))
        name = called[1] if called else stem or folder.parent.name
        groups.setdefault(key, RunGroup(name)).runs.append(run)
    found = list(groups.values())
    if names is not None:
        if len(names) != len(found):
            raise RunError(
                f'--names gives {len(names)} names for {len(found)} methods: {", ".join(group.name for group in found)}'
            )
        found = [RunGroup(name, group.runs) for name, group in zip(names, found)]
    _check_groups(found)
    return found


def read_run(folder: Path) -> TrainedRun:
    """Read the run whose last checkpoint is in ``folder``: its config, the name of that checkpoint, and its scalars.

    Raises:
        RunError: The run has no config or no checkpoint, or is not finished.
    """
    checkpoint = _last_checkpoint(folder)
    loaded = load_checkpoint_file(checkpoint)
    meta = loaded.get('meta') or {}
    logs = _find_logs(folder, str(meta.get('experiment_name')))
    configs = [_config_beside(log) for log in logs if _config_beside(log).is_file()] or sorted(folder.glob('*.py'))
    if not configs:
        raise RunError(
            f'run {str(folder)!r} has no config: expected the one that MMEngine writes to */vis_data/config.py'
        )
    config = Config.fromfile(configs[-1])
    if not has_stopped_early(loaded):
        _check_finished(folder, config, meta)
    scalars, unreadable = read_scalars(logs)
    seed = config.get('randomness', {}).get('seed')
    record = meta.get(RECORD_KEY) or {}
    val_data, teachers = record.get('val_data') or {}, record.get('teachers') or {}
    return TrainedRun(folder, seed, config, checkpoint, scalars, val_data, unreadable, teachers)


def read_scalars(logs: Sequence[Path]) -> tuple[dict[str, Series], int]:
    """Read the scalars of a run by name, and count the lines that are not readable.

    Args:
        logs: The file that MMEngine's ``LocalVisBackend`` wrote at each start, oldest first. The last start counts, and
            the starts that it was resumed from. Where a step was logged again, the later value counts.
    """
    points: dict[str, dict[int, float]] = {}
    unreadable = 0
    for row in _rows_of_one_run(logs):
        if row is None or not isinstance(row.get('step'), (int, float)):
            unreadable += 1
            continue
        for name, value in row.items():
            if name not in ('step', 'epoch', 'iter') and isinstance(value, (int, float)):
                points.setdefault(name, {})[int(row['step'])] = float(value)
    return {name: _series(values) for name, values in points.items()}, unreadable


def label_noise(config: Config) -> float:
    """Return the share of wrong training labels, the field ``label_noise`` of the data set; 0 without the field."""
    dataset = (config.get('train_dataloader') or {}).get('dataset') or {}
    while 'label_noise' not in dataset and isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    return float(dataset.get('label_noise', 0.0))


def common_steps(series: Sequence[Series]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the steps that all of ``series`` have, and the values there, shape ``(series, steps)``."""
    steps = series[0].steps
    for other in series[1:]:
        steps = np.intersect1d(steps, other.steps)
    return steps, np.stack([one.values[np.isin(one.steps, steps)] for one in series])


# ------------------------------------------------------------------------------------------------------------- folders
def _find_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise RunError(f'{str(path)!r} is not a folder; give the work_dir of a run')
    if _is_run(path):
        return [path]
    found = [folder for folder in sorted(path.rglob('*')) if folder.is_dir() and _is_run(folder)]
    if not found:
        raise RunError(
            f'{str(path)!r} is not a run and holds none: expected a work_dir of tools/train.py or runs of '
            f'tools/compare.py, which have a file {POINTER} and folders */vis_data'
        )
    return found


def _is_run(folder: Path) -> bool:
    return (folder / POINTER).is_file() or any(folder.glob(SCALARS))


def _last_checkpoint(folder: Path) -> Path:
    pointer = folder / POINTER
    checkpoint = (
        folder / Path(pointer.read_text().strip()).name if pointer.is_file() else None
    )  # it may have been moved
    if checkpoint is None or not checkpoint.is_file():
        raise RunError(
            f'run {str(folder)!r} has no checkpoint{f" {checkpoint.name}" if checkpoint else ""}: it is still in its '
            'first epochs, or its checkpoints were deleted; wait, or train it again'
        )
    return checkpoint


def _check_finished(folder: Path, config: Config, meta: Mapping[str, Any]) -> None:
    for unit, limit in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        last = (config.get('train_cfg') or {}).get(limit)
        if last is not None and meta.get(unit, last) < last:
            raise RunError(
                f'run {str(folder)!r} is not finished: its last checkpoint is of {unit} {meta[unit]} of {last}; wait '
                'for it, or continue it by --resume'
            )


# ---------------------------------------------------------------------------------------------------------------- logs
def _find_logs(folder: Path, experiment_name: str) -> list[Path]:
    """List the logs up to the start with this name, which holds its time, and the logs of later resumes."""
    logs = sorted(folder.glob(SCALARS))  # of training; a test writes none
    named = [place for place, log in enumerate(logs, start=1) if experiment_name.endswith(log.parts[-3])]
    last = named[-1] if named else len(logs)
    return logs[:last] + [log for log in logs[last:] if _is_resumed(log)]


def _rows_of_one_run(logs: Sequence[Path]) -> list[dict[str, Any] | None]:
    """Read the lines of a run in order; ``None`` stands for a line that is cut off."""
    found: list[dict[str, Any] | None] = []
    epoch, last = 0, math.inf  # that the run was resumed from, and the iteration
    for log in reversed(logs):
        rows = list(logged_rows(log))
        trained = [row for row in rows if row is not None and 'iter' in row]
        if trained and trained[-1].get('epoch', epoch) < epoch:
            continue  # another run, which did not come that far
        end = next((place for place, row in enumerate(rows) if row is not None and row.get('iter', 0) > last), None)
        found = rows[:end] + found
        if not _is_resumed(log):
            break
        if trained and trained[0]['iter'] <= last:
            epoch, last = trained[0].get('epoch', 1) - 1, trained[0]['iter'] - 1
    return found


def _is_resumed(log: Path) -> bool:
    config = _config_beside(log)
    return not config.is_file() or bool(Config.fromfile(config).get('resume'))  # a Runner without config writes none


def _config_beside(log: Path) -> Path:
    return log.with_name('config.py')


# -------------------------------------------------------------------------------------------------------------- checks
def _check_groups(groups: Sequence[RunGroup]) -> None:
    names = [group.name for group in groups]
    for group in groups:
        if names.count(group.name) > 1:
            places = ', '.join(str(same.runs[0].folder) for same in groups if same.name == group.name)
            raise RunError(f'two methods are called {group.name!r}: {places}; tell them apart by --names')
        seeds = [run.seed for run in group.runs]
        if len(set(seeds)) < len(seeds):
            raise RunError(
                f'two runs of {group.name!r} have one seed, {_first_repeated(seeds)}, so they are no two measurements: '
                f'{", ".join(str(run.folder) for run in group.runs)}'
            )
    first = groups[0]
    for group in groups[1:]:
        if _validation_images(group.config) != _validation_images(first.config):
            raise RunError(
                f'{group.name!r} was validated on other data than {first.name!r}: '
                f'{_validation_images(group.config)} and {_validation_images(first.config)}; analyse them one by one'
            )
    recorded = [run for group in groups for run in group.runs if 'sha256' in run.val_data]
    for run in recorded[1:]:
        if run.val_data['sha256'] != recorded[0].val_data['sha256']:
            raise RunError(
                f'run {str(run.folder)!r} was validated on other images than {str(recorded[0].folder)!r}: '
                f'{_images(run)} and {_images(recorded[0])}, whose names, labels or pixels differ; analyse them one by '
                'one, or train them again on one set'
            )


def _validation_images(config: Config) -> dict[str, Any]:
    return images_of(config.val_dataloader.dataset)


def _images(run: TrainedRun) -> str:
    root = run.config.val_dataloader.dataset.get('data_root')
    return f'{run.val_data["images"]} images of {run.val_data["classes"]} classes' + (f' in {root!r}' if root else '')


def _first_repeated(values: Sequence[Any]) -> Any:
    return next(value for value in values if values.count(value) > 1)


def _series(values: Mapping[int, float]) -> Series:
    steps = sorted(values)
    return Series(np.array(steps, dtype=np.int64), np.array([values[step] for step in steps]))
