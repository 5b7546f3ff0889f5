"""From a folder of photos and any teacher to an exported student: the stages, one after the other."""

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

from r2kd_mm.engine import AtomicLocalBackend, RunStopped
from r2kd_mm.engine.cli import readable_message
from r2kd_mm.engine.fileio import check_writable
from r2kd_mm.export import export_student
from r2kd_mm.export.formats import require_packages
from r2kd_mm.hooks.guessing import chance_limit
from r2kd_mm.photos.folder import Photos, look_at_photos, refuse_within
from r2kd_mm.photos.options import Options
from r2kd_mm.photos.pictures import look_into_photos
from r2kd_mm.photos.plan import ALONE, DISTILLED, TEACHER, Cost, Plan, check_plan, make_plan
from r2kd_mm.report.table import format_difference, format_spread, markdown_table
from r2kd_mm.runs import (
    Result,
    Run,
    complete,
    last_checkpoint,
    load_result,
    paired_difference,
    spread,
)
from r2kd_mm.runs.statistics import wilson_interval

RECORD = 'distill.json'
PHOTOS = 'photos'  # in the record: the digest of their names
TABLE = 'table.md'
PAGE_IMAGES = 500
PAGE_PACKAGES = ('jinja2', 'matplotlib', 'scipy')
TEACHING = 'teacher_on_the_view_of_the_student'


@dataclass(frozen=True)
class Distilled:
    """What a call of :func:`distill` found.

    Args:
        folder: Holds all that was written.
        accuracy: Mean accuracy on the validation photos in percent, by ``'teacher'`` in its own pipeline,
            ``'teacher_on_the_view_of_the_student'``, ``'student_alone'`` and ``'student_distilled'``.
        interval: Their 95 % intervals by the number of photos, in percent.
        checkpoint: Of the distilled student.
        exports: Folder by format.
        page: The page with the figures; ``None`` without one.
        table: What the call printed at its end.
    """

    folder: Path
    accuracy: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]]
    checkpoint: Path
    exports: Mapping[str, Path]
    page: Path | None
    table: str


def distill(data: str | os.PathLike, teacher: str, student: str, out: str | os.PathLike, **options: Any) -> Distilled:
    """Fine-tune a teacher on a folder of photos, teach a student, measure both, and export the student.

    The same call goes on where it stopped and skips what is done. Each stage is a run of ``tools/train.py`` with a
    config file in ``out/configs``.

    Args:
        data: The photos, see :func:`~r2kd_mm.photos.folder.look_at_photos`.
        teacher: Name of the teacher, such as ``'timm/resnet34'``, see :func:`~r2kd_mm.networks.find_network`.
        student: Name of the student.
        out: Folder for all that is written.
        options: Others of :class:`~r2kd_mm.photos.options.Options`, such as ``epochs=30``.

    Raises:
        ValueError: Something in the options, the photos or the networks cannot be, before anything is trained.
        RunStopped: A stage failed; its log says why.
    """
    asked = Options(Path(data), teacher, student, Path(out), **options)
    for name in asked.formats:
        require_packages(name, to_write=True)
    for name in asked.loggers:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'--logger {name} needs the package {name}, which is not installed: pip install {name}')
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
    notes = look_into_photos(photos.paths, lists)
    photos = replace(photos, notes=(*photos.notes, *notes))
    plan = make_plan(asked, photos)
    costs = check_plan(plan)
    text = json.dumps({**asked.identity, PHOTOS: photos.digest}, indent=2) + '\n'
    AtomicLocalBackend().put_text(text, asked.out / RECORD)
    print(_describe(plan), flush=True)

    threads = torch.get_num_threads()
    if plan.teacher_run is not None:
        print('\nTeacher', flush=True)
        _train((plan.teacher_run,), 1, threads)
        _check_teacher(plan.teacher_run, photos)
    print('\nStudent', flush=True)
    _train(plan.student_runs, asked.jobs, max(1, threads // asked.jobs))

    found = _measured(plan)
    accuracy = {name: math.fsum(values.values()) / len(values) for name, values in found.items()}
    interval = {name: _interval(value, photos.num_val) for name, value in accuracy.items()}
    table = _table(plan, found, interval, costs)
    AtomicLocalBackend().put_text(table, asked.out / TABLE)
    print(f'\n{table}', flush=True)
    exports, failures = _export(plan.distilled, asked.out / 'export', asked.formats)
    page = _page(plan) if asked.page else None
    checkpoint = Path(last_checkpoint(plan.distilled))
    print(f'{_places(asked, checkpoint, exports, page)}', flush=True)
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
        f'{name}: {known.get(name)!r} there, {asked[name]!r} now' for name in asked if known.get(name) != asked[name]
    ]
    if changes:
        raise ValueError(
            f'--out {str(options.out)!r} holds another run: {"; ".join(changes)}. Give another folder, or the options '
            'of that run to go on with it'
        )


def _check_photos(options: Options, photos: Photos) -> None:
    """Refuse photos that are not those of the earlier call: the networks there learned other classes or images.

    Raises:
        ValueError: Photos or classes were added, removed or renamed, or the record does not say.
    """
    path = options.out / RECORD
    if path.is_file() and json.loads(path.read_text()).get(PHOTOS) != photos.digest:
        raise ValueError(
            f'the photos changed: {str(options.data)!r} has other classes or files than those that {str(path)!r} '
            'records; give another --out, or bring the photos of that run back to go on with it'
        )


def _describe(plan: Plan) -> str:
    """Data, networks, losses and schedule, as a table."""
    photos, options = plan.photos, plan.options
    lines = [['what', 'is'], ['classes', f'{len(photos.classes)}: {_some(photos.classes)}']]
    lines.append(['photos', f'{photos.num_train} to train, {photos.num_val} to measure'])
    if photos.unlabelled is not None:
        share = round(options.unlabelled_share * options.batch_size)
        lines.append(
            [
                'unlabelled',
                f'{len(photos.unlabelled.files)} more for the distillation, {share} of the {options.batch_size} in '
                'each batch',
            ]
        )
    for name, side, weights in (
        ('teacher', plan.teacher, _weights_of_teacher(plan)),
        ('student', plan.student, options.student_init),
    ):
        seen = side.inputs
        lines.append([name, f'{side.network.name}, weights: {weights}'])
        lines.append(
            [
                f'{name} gets',
                f'{seen.size} x {seen.size} pixels, {seen.interpolation}, {"RGB" if seen.to_rgb else "BGR"}, mean '
                f'{_short(seen.mean)}, std {_short(seen.std)}',
            ]
        )
    if plan.teacher.inputs != plan.student.inputs:
        lines.append(['while it teaches', 'the view of the student, resized and normalised for the teacher'])
    lines.append(['method', plan.method + (' (auto)' if options.method == 'auto' else '')])
    lines.append(['training', f'{options.epochs} epochs, batch {options.batch_size}, {options.seeds} seed(s)'])
    code = [side.network.name for side in (plan.teacher, plan.student) if side.network.runs_code]
    notes = [*photos.notes, *(f'{name} runs code of yours' for name in code)]
    return markdown_table(lines) + ''.join(f'- {note}\n' for note in notes)


def _weights_of_teacher(plan: Plan) -> str:
    if plan.teacher.network.is_trained:
        return 'in the file'
    return plan.options.teacher_ckpt or plan.options.teacher_init


def _train(runs: tuple[Run, ...], jobs: int, threads: int) -> None:
    failures = complete(runs, jobs, threads)
    if failures:
        reasons = '; '.join(f'{run}: {reason}' for run, reason in failures.items())
        raise RunStopped(f'a stage failed. {reasons}. The same command goes on from here')


def _check_teacher(run: Run, photos: Photos) -> None:
    """Refuse a teacher that has learned nothing, before a student is trained."""
    accuracy = load_result(run).last
    if accuracy <= chance_limit(len(photos.classes), photos.num_val):
        raise RunStopped(
            f'the teacher scores {accuracy:.2f} % on {photos.num_val} validation photos, no better than guessing among '
            f'{len(photos.classes)} classes, so it has nothing to teach; give it more --epochs, published weights '
            '(--teacher-init), another --teacher-lr or more photos, and another --out'
        )


def _export(run: Run, folder: Path, formats: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """The exports by format, made where they are not there, and why some cannot be made."""
    exports, failures = {}, []
    for name in formats:
        try:
            if not (folder / name).is_dir():
                export_student(last_checkpoint(run), folder / name, name)
            exports[name] = folder / name
        except Exception as error:  # whatever torch.jit, torch.export and onnx raise
            failures.append(f'{name}: {readable_message(error)}')
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
    found = {} if plan.teacher_run is None else {TEACHER: {0: load_result(plan.teacher_run).last}}
    found[TEACHING] = {0: results[DISTILLED][0].teachers['teacher']}
    return {**found, **{name: {seed: result.last for seed, result in by.items()} for name, by in results.items()}}


def _interval(accuracy: float, count: int) -> tuple[float, float]:
    low, high = wilson_interval(round(accuracy / 100 * count), count)
    return 100 * low, 100 * high


def _table(
    plan: Plan,
    found: Mapping[str, Mapping[int, float]],
    interval: Mapping[str, tuple[float, float]],
    costs: Mapping[str, Cost],
) -> str:
    photos = plan.photos
    lines = [
        [
            'network',
            'accuracy, %',
            f'95 % interval of {photos.num_val} photos',
            'parameters, millions',
            'multiply-adds, millions',
            'ms an image, this machine',
        ]
    ]
    for name in (TEACHER, TEACHING, ALONE, DISTILLED):
        if name in found:
            low, high = interval[name]
            values = list(found[name].values())
            cost = costs[TEACHER if name == TEACHING else name]
            lines.append(
                [
                    name.replace('_', ' '),
                    format_spread(spread(values)),
                    f'{low:.1f} to {high:.1f}',
                    '-' if cost.parameters is None else f'{cost.parameters / 1e6:.2f}',
                    '-' if cost.flops is None else f'{cost.flops / 1e6:.1f}',
                    f'{cost.milliseconds:.1f}',
                ]
            )
    table = markdown_table(lines)
    if plan.options.seeds >= 3 and ALONE in found:
        difference = paired_difference(found[DISTILLED], found[ALONE])
        table += (
            f'\ndistilled minus alone over {plan.options.seeds} seeds, 95 % interval: {format_difference(difference)}\n'
        )
    return table


def _places(options: Options, checkpoint: Path, exports: Mapping[str, Path], page: Path | None) -> str:
    lines = [f'student:  {checkpoint}', f'configs:  {options.out / "configs"}']
    lines += [f'export:   {folder} ({name})' for name, folder in exports.items()]
    if page is not None:
        lines.append(f'page:     {page}')
    lines.append(f'table:    {options.out / TABLE}')
    return '\n'.join(lines)


def _some(names: tuple[str, ...], limit: int = 6) -> str:
    return ', '.join(names[:limit]) + (f' and {len(names) - limit} more' if len(names) > limit else '')


def _short(values: tuple[float, ...]) -> str:
    return ', '.join(f'{value:g}' for value in values)
