"""Format the plan and the results of ``r2kd-mm distill`` as tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from r2kd_mm.hooks.guessing import chance_limit
from r2kd_mm.photos.folder import Photos
from r2kd_mm.photos.options import Options
from r2kd_mm.photos.plan import ALONE, DISTILLED, Plan
from r2kd_mm.photos.sides import Cost, Teacher
from r2kd_mm.report.table import format_difference, format_spread, markdown_table
from r2kd_mm.runs import paired_difference, spread
from r2kd_mm.runs.statistics import FEWEST_SEEDS

TABLE = 'table.md'
TEACHING = '_on_the_view_of_the_student'  # behind the name of a teacher


def describe(plan: Plan) -> str:
    """Return a table of the data, networks, losses and schedule of a plan."""
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
    sides = [(spoken(teacher.name), teacher, _weights(teacher)) for teacher in plan.teachers]
    for name, side, weights in (*sides, ('student', plan.student, options.student_init)):
        seen = side.inputs
        lines.append([name, f'{side.network.name}, weights: {weights}'])
        lines.append(
            [
                f'{name} gets',
                f'{seen.size} x {seen.size} pixels, {seen.interpolation}, {"RGB" if seen.to_rgb else "BGR"}, mean '
                f'{_short(seen.mean)}, std {_short(seen.std)}',
            ]
        )
    if any(teacher.inputs != plan.student.inputs for teacher in plan.teachers):
        lines.append(['while it teaches', 'the view of the student, resized and normalised for the teacher'])
    if len(plan.teachers) > 1:
        lines.append(['together', f'the mean of the logits of the {len(plan.teachers)} teachers'])
    if options.replay is not None:
        lines.append(['replay', f'images and logits repeat after {options.replay} epochs'])
    lines.append(['method', plan.method + (' (auto)' if options.method == 'auto' else '')])
    processes = '' if options.processes == 1 else f' over {options.processes} processes'
    lines.append(
        ['training', f'{options.epochs} epochs, batch {options.batch_size}{processes}, {options.seeds} seed(s)']
    )
    code = [side.network.name for side in (*plan.teachers, plan.student) if side.network.runs_code]
    notes = [*photos.notes, *(f'{name} runs code of yours' for name in code)]
    return markdown_table(lines) + ''.join(f'- {note}\n' for note in notes)


def _weights(teacher: Teacher) -> str:
    return 'in the file' if teacher.network.is_trained else teacher.asked.ckpt or teacher.asked.init


def spoken(name: str) -> str:
    """Write the name of a run in words, such as ``'teacher 2'``."""
    return name.replace('_', ' ')


def guessing(accuracy: Mapping[str, float], photos: Photos) -> str:
    """Name the students that learned nothing; their logs, where the same warning stands, nobody reads."""
    limit = chance_limit(len(photos.classes), photos.num_val)
    names = [spoken(name) for name in (ALONE, DISTILLED) if accuracy.get(name, 100.0) <= limit]
    if not names:
        return ''
    return (
        f'\n{" and ".join(names)}: no better than guessing among {len(photos.classes)} classes (up to {limit:.2f} % on '
        f'{photos.num_val} photos); give a lower --lr, more --epochs or other --student-init\n'
    )


def table_of(
    plan: Plan,
    found: Mapping[str, Mapping[int, float]],
    interval: Mapping[str, tuple[float, float]],
    costs: Mapping[str, Cost],
) -> str:
    """Return accuracies, sizes and costs as a table."""
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
    for name, by_seed in found.items():
        low, high = interval[name]
        cost = costs[name.removesuffix(TEACHING)]
        lines.append(
            [
                spoken(name),
                format_spread(spread(list(by_seed.values()))),
                f'{low:.1f} to {high:.1f}',
                '-' if cost.parameters is None else f'{cost.parameters / 1e6:.2f}',
                '-' if cost.flops is None else f'{cost.flops / 1e6:.1f}',
                f'{cost.milliseconds:.1f}',
            ]
        )
    table = markdown_table(lines)
    if plan.options.seeds >= FEWEST_SEEDS and ALONE in found:
        difference = paired_difference(found[DISTILLED], found[ALONE])
        table += (
            f'\ndistilled minus alone over {plan.options.seeds} seeds, 95 % interval: {format_difference(difference)}\n'
        )
    return table


def places(options: Options, checkpoint: Path, exports: Mapping[str, Path], page: Path | None) -> str:
    """Return where everything is."""
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
