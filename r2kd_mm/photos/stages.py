"""Run all stages of ``r2kd-mm distill``: check the photos, train teacher and student, measure both, and export."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger

from r2kd_mm.distillers.plain import PRUNED_MEMBER
from r2kd_mm.engine import AtomicLocalBackend, RunStopped
from r2kd_mm.engine.cli import readable_message
from r2kd_mm.engine.fileio import check_writable
from r2kd_mm.export import export_student
from r2kd_mm.export.export import options_of
from r2kd_mm.export.formats import FLOAT32, require_packages
from r2kd_mm.hooks.guessing import chance_limit
from r2kd_mm.photos.devices import check_devices, kept_on
from r2kd_mm.photos.folder import Photos, look_at_photos, refuse_within
from r2kd_mm.photos.options import Options
from r2kd_mm.photos.pictures import look_into_photos
from r2kd_mm.photos.plan import DISTILLED, Plan, check_plan, make_plan
from r2kd_mm.photos.summary import TABLE, TEACHING, describe, guessing, places, spoken, table_of
from r2kd_mm.runs import (
    LocalEngine,
    Result,
    Run,
    complete,
    last_checkpoint,
    load_result,
)
from r2kd_mm.runs.engines import visible_gpus
from r2kd_mm.runs.statistics import accuracy_interval

RECORD = 'distill.json'
PHOTOS = 'photos'  # in the record: the digest of their names
PAGE_IMAGES = 500
PAGE_PACKAGES = ('jinja2',)


@dataclass(frozen=True)
class Distilled:
    """Results of a call of :func:`distill`.

    Args:
        folder: Folder with all output.
        accuracy: Mean accuracy on the validation photos in percent, by network: ``'teacher'`` in its own pipeline,
            ``'teacher_on_the_view_of_the_student'``, ``'student_alone'`` and ``'student_distilled'``. Further teachers
            are ``'teacher_2'`` and so on.
        interval: 95 % confidence interval of each accuracy for this number of photos, in percent.
        checkpoint: Checkpoint of the distilled student.
        exports: Folder of each export, by format, such as ``'onnx'``; in a lower precision ``'onnx-int8'``.
        page: HTML page with figures; ``None`` if none was written.
        table: Table of results that the call printed at its end.

    Example:
        >>> accuracy = dict(teacher=95.0, student_distilled=93.5)
        >>> interval = dict(teacher=(91.0, 97.3), student_distilled=(89.2, 96.2))
        >>> done = Distilled(Path('out'), accuracy, interval, Path('out/epoch_60.pth'), exports={}, page=None, table='')
        >>> done.accuracy['teacher'] - done.accuracy['student_distilled']
        1.5
    """

    folder: Path
    accuracy: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]]
    checkpoint: Path
    exports: Mapping[str, Path]
    page: Path | None
    table: str


def distill(
    data: str | os.PathLike, teacher: str | Sequence[str], student: str, out: str | os.PathLike, **options: Any
) -> Distilled:
    """Fine-tune a teacher on a folder of photos, teach a student, measure both, and export the student.

    The same call continues an interrupted one and skips what is done. Each stage is a run of ``tools/train.py`` with a
    config file in ``out/configs``.

    Args:
        data: The photos, see :func:`~r2kd_mm.photos.folder.look_at_photos`.
        teacher: Name of the teacher, such as ``'timm/resnet34'``, see :func:`~r2kd_mm.networks.find_network`; or
            the names of several.
        student: Name of the student.
        out: Folder for all that is written.
        options: Others of :class:`~r2kd_mm.photos.options.Options`, such as ``epochs=30``.

    Raises:
        ValueError: Something in the options, the photos or the networks cannot be, before anything is trained.
        RunStopped: A stage failed; its log says why.

    Example:
        >>> found = distill(
        ...     'photos', teacher='r2kd/cifar/resnet14', student='r2kd/cifar/resnet8', out='distilled', epochs=1,
        ...     teacher_init='none', student_init='none', image_size=32, teacher_image_size=32, baseline=False,
        ...     formats=(), page=False, workers=0)
        <BLANKLINE>
        ...
        >>> sorted(found.accuracy)
        ['student_distilled', 'teacher', 'teacher_on_the_view_of_the_student']
    """
    asked = Options(Path(data), teacher, student, Path(out), **options)
    for name in asked.formats:
        require_packages(name, to_write=True, precision=asked.precision or FLOAT32)
    for name in asked.loggers:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'--logger {name} needs the package {name}, which is not installed: pip install {name}')
    check_devices(asked.devices)
    if asked.page:
        _require_page()
    refuse_within(asked.out, asked.data)
    check_writable(asked.out, 'folder', '--out')
    _check_record(asked)
    MMLogger.get_instance('distill', log_level='WARNING')  # what the check of the networks initialises
    goes_on = (asked.out / RECORD).is_file()
    lists = asked.out / 'data'
    photos = look_at_photos(
        asked.data, lists, asked.val_split, 0, asked.allow_duplicates, goes_on, unlabelled=asked.unlabelled
    )
    _check_photos(asked, photos)
    plan = make_plan(asked, photos)  # finds the networks by name, before all photos are decoded
    notes = look_into_photos(photos.paths, lists)
    plan = replace(plan, photos=replace(photos, notes=(*photos.notes, *notes)))
    costs = check_plan(plan)
    text = json.dumps({**asked.identity, PHOTOS: photos.digest}, indent=2) + '\n'
    AtomicLocalBackend().put_text(text, asked.out / RECORD)
    print(describe(plan), flush=True)

    engine = engine_of(asked)
    with kept_on(asked.devices):
        if plan.teacher_runs:
            print('\nTeacher', flush=True)
            _train(plan.teacher_runs, engine)
            for run in plan.teacher_runs:
                _check_teacher(run, photos)
        print('\nStudent', flush=True)
        _train(plan.student_runs, engine)

    found = _measured(plan)
    accuracy = {name: math.fsum(values.values()) / len(values) for name, values in found.items()}
    interval = {name: accuracy_interval(value, photos.num_val) for name, value in accuracy.items()}
    table = table_of(plan, found, interval, costs) + guessing(accuracy, photos)
    AtomicLocalBackend().put_text(table, asked.out / TABLE)
    print(f'\n{table}', flush=True)
    exports, failures = _export(plan.distilled, asked)
    page = _page(plan) if asked.page else None
    checkpoint = Path(last_checkpoint(plan.distilled))
    print(f'{places(asked, checkpoint, exports, page)}', flush=True)
    if failures:
        raise RunStopped(f'all is trained, and not every export could be made. {"; ".join(failures)}')
    return Distilled(asked.out, accuracy, interval, checkpoint, exports, page, table)


def _check_record(options: Options) -> None:
    """Refuse a folder that holds something else than an earlier call with these options.

    Raises:
        ValueError: It does.
    """
    path = options.out / RECORD
    if not path.is_file():
        held = sorted(entry.name for entry in options.out.iterdir()) if options.out.is_dir() else []
        if set(held) - {'data', 'configs'}:  # of a call that was refused
            raise ValueError(f'--out {str(options.out)!r} holds other files, such as {held[0]!r}; give a new folder')
        return
    known, asked = json.loads(path.read_text()), json.loads(json.dumps(options.identity))
    # an earlier version had fewer options, and did what their defaults say
    known = {**{field.name: field.default for field in fields(Options) if field.name in asked}, **known}
    changes = [
        f'{name}: {known.get(name)!r} there, {asked[name]!r} now'
        for name in asked
        if _given(known.get(name)) != _given(asked[name])
    ]
    if changes:
        raise ValueError(
            f'--out {str(options.out)!r} holds another run: {"; ".join(changes)}. Give another folder, or the options '
            'of that run to continue it'
        )


def _given(value: Any) -> Any:
    """Return ``None`` for an option that was given for none of several teachers."""
    return None if isinstance(value, list) and all(one is None for one in value) else value


def _check_photos(options: Options, photos: Photos) -> None:
    """Refuse photos that are not those of the earlier call: the networks there learned other classes or images.

    Raises:
        ValueError: Photos or classes were added, removed or renamed, or the record does not say.
    """
    path = options.out / RECORD
    if path.is_file() and json.loads(path.read_text()).get(PHOTOS) != photos.digest:
        raise ValueError(
            f'the photos changed: {str(options.data)!r} has other classes or files than those that {str(path)!r} '
            'records; give another --out, or bring the photos of that run back to continue it'
        )


def engine_of(options: Options) -> LocalEngine:
    """Return what trains the runs: in processes of this machine, which take its GPUs in turn."""
    gpus = visible_gpus() if options.devices is None and options.jobs > 1 else ()
    return LocalEngine(options.jobs, max(1, torch.get_num_threads() // options.jobs), gpus or None)


def _train(runs: tuple[Run, ...], engine: LocalEngine) -> None:
    failures = complete(runs, engine)
    if failures:
        reasons = '; '.join(f'{run}: {reason}' for run, reason in failures.items())
        raise RunStopped(f'a stage failed. {reasons}. The same command continues from here')


def _check_teacher(run: Run, photos: Photos) -> None:
    """Refuse a teacher that has learned nothing, before a student is trained."""
    accuracy = load_result(run).last
    if accuracy <= chance_limit(len(photos.classes), photos.num_val):
        raise RunStopped(
            f'the {spoken(run.method.name)} scores {accuracy:.2f} % on {photos.num_val} validation photos, no better '
            f'than guessing among {len(photos.classes)} classes, so it has nothing to teach; give it more --epochs, '
            'published weights (--teacher-init), another --teacher-lr or more photos, and another --out'
        )


def _export(run: Run, options: Options) -> tuple[dict[str, Path], list[str]]:
    """The exports by format, made where they are not there, and why some cannot be made."""
    exports, failures = {}, []
    asked: dict[str, Any] = dict(
        normalise=options.with_normalization, softmax=options.with_softmax, licence=options.license
    )
    targets = {name: (name, FLOAT32) for name in options.formats}
    if options.precision is not None:
        targets |= {f'{name}-{options.precision}': (name, options.precision) for name in options.formats}
    for target, (name, precision) in targets.items():
        folder = options.out / 'export' / target
        try:
            if not folder.is_dir():
                export_student(last_checkpoint(run), folder, name, precision=precision, **asked)
            elif options_of(folder) != asked:
                raise ValueError(
                    f'{str(folder)!r} was made with another --with-normalization, --with-softmax or --license; move it '
                    'away'
                )
            exports[target] = folder
        except Exception as error:  # whatever torch.jit, torch.export and onnx raise
            hint = '' if precision == FLOAT32 else ' (options of tools/model_converters/export_student.py)'
            failures.append(f'{target}: {readable_message(error)}{hint}')
    return exports, failures


def _require_page() -> None:
    """Refuse a page whose packages are missing.

    Raises:
        ImportError: A package is missing; the message names it.
    """
    missing = [name for name in PAGE_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'the page needs {", ".join(missing)}, which is not installed; install the extra: pip install '
            "'r2kd_mm[analysis]', or give --no-page"
        )


def _page(plan: Plan) -> Path:
    from r2kd_mm.report import analyze

    folder = plan.options.out / 'page'
    page = folder / 'index.html'
    newest = max(Path(last_checkpoint(run)).stat().st_mtime for run in plan.student_runs)
    if page.is_file() and page.stat().st_mtime > newest:
        return page
    methods = dict.fromkeys(run.folder.parent for run in plan.student_runs)
    return analyze(list(methods), folder, images=min(PAGE_IMAGES, plan.photos.num_val), fast=True)


def _measured(plan: Plan) -> dict[str, dict[int, float]]:
    """Accuracy after the last epoch in percent, by network and seed."""
    results: dict[str, dict[int, Result]] = {}
    for run in plan.student_runs:
        results.setdefault(run.method.name, {})[run.seed] = load_result(run)
    teachers = {run.method.name: {0: load_result(run).last} for run in plan.teacher_runs}
    scores = results[DISTILLED][0].teachers
    teaching = {f'{name}{TEACHING}': {0: score} for name, score in scores.items() if name != PRUNED_MEMBER}
    students = {name: {seed: result.last for seed, result in by.items()} for name, by in results.items()}
    return {**teachers, **teaching, **students}
