"""From measurements to what the page shows: a figure, its numbers, and a sentence about each."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from numpy.typing import NDArray

from r2kd_mm.functional import class_correlation
from r2kd_mm.metrics import calibration_bins, calibration_error
from r2kd_mm.report import figures
from r2kd_mm.report.figures import PERCENT, Line, Panel, Points
from r2kd_mm.report.measure import Cost, Measurements, Method, Teacher
from r2kd_mm.report.numbers import agreement, class_accuracies, confusions, entropies, most_confused
from r2kd_mm.report.runs import RunGroup, common_steps, label_noise
from r2kd_mm.runs import accuracy, spread

ACCURACY = 'accuracy/top1'  # of mmpretrain's Accuracy, in percent
MOST_CLASSES = 20
MOST_PAIRS = 12
NUM_BINS = 15
BAND = 'Line: mean over seeds; band: one standard deviation.'
PERCENT_BAND = 'Line: mean over seeds; band: one standard deviation, within 0 and 100 %.'
BAR = 'Dot: mean over seeds; bar: one standard deviation, within 0 and 100 %.'


@dataclass(frozen=True)
class Exhibit:
    """One thing to look at.

    Args:
        name: Of its files, and of its place in the page.
        title: Above it.
        caption: What is seen, on which images.
        draw: Makes the figure.
        header: Names of the columns of its numbers.
        rows: The numbers.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Summary:
    """The table at the top: header and rows as text, and the same as numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[Sequence[Any]]


def make_summary(found: Measurements) -> Summary:
    """A row for each method, and one for each teacher."""
    header = [
        'method', 'seeds', 'last epoch, %', 'best epoch, %', 'agreement, %', 'ECE, %', 'corrupted, %', 'parameters',
        'FLOPs', 'latency, ms',
    ]  # fmt: skip
    numbers: list[list[Any]] = []
    for method in found.methods:
        series = [run.scalars[ACCURACY].values for run in method.group.runs if ACCURACY in run.scalars]
        measured = (
            [values[-1] for values in series],
            [values.max() for values in series],
            [agreement(logits, target, found.labels).everywhere for logits in method.students]
            if (target := _target(method, found)) is not None
            else [],
            [100 * calibration_error(_bins(logits, found)) for logits in method.students],
            np.mean(list(method.corrupted.values()), axis=0) if method.corrupted else [],
        )
        numbers.append([method.name, len(method.group.runs), *measured, *_cost_numbers(method.cost)])
    for name, teacher in _teachers(found).items():
        corrupted = list(teacher.corrupted.values())
        numbers.append(
            [
                name, '', [accuracy(teacher.logits, found.labels)], [], [],
                [100 * calibration_error(_bins(teacher.logits, found))],
                [np.mean(corrupted)] if corrupted else [], *_cost_numbers(teacher.cost),
            ]
        )  # fmt: skip
    rows = [
        [row[0], str(row[1]), *map(_spread_text, row[2:7]), f'{row[7]:,}', f'{row[8]:,}', f'{row[9]:.2f}']
        for row in numbers
    ]
    plain = [[*row[:2], *(float(np.mean(x)) if len(x) else '' for x in row[2:7]), *row[7:]] for row in numbers]
    return Summary(header, rows, plain)


def make_exhibits(groups: Sequence[RunGroup], found: Measurements) -> list[Exhibit]:
    """Everything that applies to these runs, in the order of the page."""
    makers: list[Iterator[Exhibit]] = [
        _accuracy(groups, found),
        _losses(groups, found),
        _entropies(found),
        _correlations(found),
        _class_accuracies(found),
        _confusions(found),
        _agreements(found),
        _reliability(found),
        _corruptions(found),
        _label_noise(groups),
        _views(found),
        _costs(found),
    ]
    return [exhibit for maker in makers for exhibit in maker]


# ------------------------------------------------------------------------------------------------------ while training
def _accuracy(groups: Sequence[RunGroup], found: Measurements) -> Iterator[Exhibit]:
    lines = _lines(groups, ACCURACY)
    if not lines:
        return
    levels = {name: accuracy(teacher.logits, found.labels) for name, teacher in _teachers(found).items()}
    panel = Panel('', 'epoch', 'top-1 accuracy (%)', lines, levels, PERCENT)
    yield Exhibit(
        'accuracy',
        'Accuracy while training',
        f'Top-1 accuracy on the validation images after each epoch that was validated. {PERCENT_BAND}'
        + (f' A level line is that of a teacher on {found.data}.' if levels else ''),
        partial(figures.draw_curves, [panel], _styles(found)),
        ('method', 'seed', 'epoch', 'accuracy_percent'),
        _series_rows(groups, ACCURACY),
    )


def _losses(groups: Sequence[RunGroup], found: Measurements) -> Iterator[Exhibit]:
    names = sorted({name for group in groups for run in group.runs for name in run.scalars if 'loss' in name})
    panels = [Panel(name, 'iteration', 'loss', _lines(groups, name)) for name in names]
    panels = [panel for panel in panels if panel.lines]
    if panels:
        yield Exhibit(
            'losses',
            'Losses while training',
            'Every loss on the training images, by the name in the log and with its weight, smoothed as logged; '
            f'"loss" is their sum. Losses of different methods are not on one scale. {BAND}',
            partial(figures.draw_curves, panels, _styles(found)),
            ('scalar', 'method', 'seed', 'iteration', 'value'),
            [(panel.title, *row) for panel in panels for row in _series_rows(groups, panel.title)],
        )


def _training_but_labels(config: Config) -> str:
    """All that decides a training but its seed, the share of wrong labels, and the weights of the teacher."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(item) for key, item in value.items() if key not in ('label_noise', 'teacher_ckpt')}
        return list(map(without, value)) if isinstance(value, (list, tuple)) else value

    fields = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
    return json.dumps(without({name: config.to_dict().get(name) for name in fields}), sort_keys=True, default=str)


def _label_noise(groups: Sequence[RunGroup]) -> Iterator[Exhibit]:
    """Methods that differ in their label noise alone, as one line each."""
    alike: dict[str, list[RunGroup]] = {}
    for group in groups:
        alike.setdefault(_training_but_labels(group.config), []).append(group)
    lines: dict[str, Line] = {}
    rows = []
    for members in alike.values():
        family = {label_noise(group.config): group for group in members}
        if len(family) == 1 or len(family) < len(members):  # two with one noise differ in something else
            continue
        noises = sorted(family)
        seeds = sorted(set.intersection(*({run.seed for run in family[noise].runs} for noise in noises)), key=str)
        last = {
            (noise, run.seed): run.scalars[ACCURACY].values[-1]
            for noise in noises
            for run in family[noise].runs
            if ACCURACY in run.scalars
        }
        seeds = [seed for seed in seeds if all((noise, seed) in last for noise in noises)]
        if seeds:
            name = family[noises[0]].name
            values = np.array([[last[noise, seed] for noise in noises] for seed in seeds])
            lines[name] = Line(100 * np.array(noises), values)
            rows += [(name, seed, noise, last[noise, seed]) for seed in seeds for noise in noises]
    if lines:
        panel = Panel('', 'wrong training labels (%)', 'top-1 accuracy (%)', lines, bounds=PERCENT)
        yield Exhibit(
            'label_noise',
            'Accuracy under label noise',
            'Top-1 accuracy on the validation images after the last epoch, against the share of training labels that '
            f'are wrong. {PERCENT_BAND}',
            partial(figures.draw_curves, [panel], figures.styles(list(lines))),
            ('method', 'seed', 'label_noise', 'accuracy_percent'),
            rows,
        )


# ------------------------------------------------------------------------------------------------------------- teachers
def _entropies(found: Measurements) -> Iterator[Exhibit]:
    panels: dict[str, dict[str, NDArray]] = {}
    for view in ('clean', 'augmented'):
        for method in found.methods:
            answers = method.clean_view if view == 'clean' else method.augmented_view
            values = {name: entropies(logits) for name, logits in answers.items()}
            if values and not any(_within(values, shown) for shown in panels.values()):
                panels = {title: shown for title, shown in panels.items() if not _within(shown, values)}
                panels[f'{method.name}: {view} images'] = values
    if panels:
        count = len(next(iter(next(iter(panels.values())).values())))
        largest = math.log(len(found.classes))
        yield Exhibit(
            'entropy',
            'How sure the teachers are',
            f'Entropy of the class probabilities of each teacher, and of the mixture that teaches, on {count} of the '
            f'validation images, clean and augmented as in training; 0 is sure, {largest:.2f} is no idea. What '
            'several methods share is shown once.',
            partial(figures.draw_histograms, panels, 'entropy (nats)', largest),
            ('panel', 'network', 'image', 'entropy_nats'),
            [
                (panel, name, image, value)
                for panel, values in panels.items()
                for name, column in values.items()
                for image, value in enumerate(column.tolist())
            ],
        )


def _correlations(found: Measurements) -> Iterator[Exhibit]:
    maps: dict[str, NDArray] = {}
    references: dict[str, NDArray] = {}
    for name, teacher in _teachers(found).items():
        maps[name] = class_correlation(teacher.logits).numpy()
    for method in found.methods:
        maps[method.name] = torch.stack([class_correlation(logits) for logits in method.students]).mean(dim=0).numpy()
        target = _target(method, found)
        if target is not None:
            references[method.name] = class_correlation(target).numpy()
    pairs = list(np.ndindex(len(found.classes), len(found.classes)))
    yield Exhibit(
        'class_correlation',
        'Which classes are taken for similar',
        f'Correlation between the logits of every two classes over {found.data}, mean over seeds; below each student, '
        'its difference to its teacher, or without one to that of the others. White: not correlated, or no difference.',
        partial(figures.draw_maps, maps, references, found.classes),
        ('network', 'class', 'other_class', 'correlation', 'difference'),
        [
            (
                name, found.classes[i], found.classes[j], values[i, j],
                values[i, j] - references[name][i, j] if name in references else '',
            )
            for name, values in maps.items()
            for i, j in pairs
        ],
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ students
def _class_accuracies(found: Measurements) -> Iterator[Exhibit]:
    values = {
        method.name: np.stack([class_accuracies(logits, found.labels) for logits in method.students])
        for method in found.methods
    }
    mean = np.nanmean(np.concatenate(list(values.values())), axis=0)
    shown = np.argsort(np.nan_to_num(mean, nan=np.inf), kind='stable')[:MOST_CLASSES]
    if len(found.classes) <= MOST_CLASSES:
        shown = np.arange(len(found.classes))
    which = '' if len(shown) == len(found.classes) else f' The {len(shown)} hardest of {len(found.classes)} classes.'
    yield Exhibit(
        'class_accuracy',
        'Accuracy of each class',
        f'Share of the images of a class that are recognised, of {found.data}.{which} {BAR}',
        partial(
            figures.draw_dots,
            [found.classes[place] for place in shown],
            {name: _points(array[:, shown]) for name, array in values.items()},
            _styles(found),
            'accuracy (%)',
            'class',
        ),
        ('method', 'seed', 'class', 'accuracy_percent'),
        [
            (method.name, seed, found.classes[place], values[method.name][row, place])
            for method in found.methods
            for row, seed in enumerate(method.seeds)
            for place in range(len(found.classes))
        ],
    )


def _confusions(found: Measurements) -> Iterator[Exhibit]:
    shares = {
        method.name: np.stack([confusions(logits, found.labels) for logits in method.students])
        for method in found.methods
    }
    pairs = most_confused(np.mean([array.mean(axis=0) for array in shares.values()], axis=0), MOST_PAIRS)
    if not pairs:
        return
    rows, columns = map(list, zip(*pairs))
    yield Exhibit(
        'confusions',
        'Most confused classes',
        f'Share of the images of the first class that are taken for the second, of {found.data}; the pairs that are '
        f'confused most in the mean over methods. {BAR}',
        partial(
            figures.draw_dots,
            [f'{found.classes[i]} → {found.classes[j]}' for i, j in pairs],
            {name: _points(array[:, rows, columns]) for name, array in shares.items()},
            _styles(found),
            'share of the images of the class (%)',
        ),
        ('method', 'seed', 'class', 'taken_for', 'share_percent'),
        [
            (method.name, seed, found.classes[i], found.classes[j], shares[method.name][row, i, j])
            for method in found.methods
            for row, seed in enumerate(method.seeds)
            for i, j in zip(*np.nonzero(shares[method.name][row]))
        ],
    )


def _agreements(found: Measurements) -> Iterator[Exhibit]:
    values = {
        method.name: np.array([agreement(logits, target, found.labels) for logits in method.students])
        for method in found.methods
        if (target := _target(method, found)) is not None
    }
    if values:
        yield Exhibit(
            'agreement',
            'Agreement with the teacher',
            f'Share of {found.data} on which student and teacher name the same class: all of them, and those on which '
            f'the teacher is right or wrong. A student without a teacher is compared with that of the others. {BAR}',
            partial(
                figures.draw_dots,
                ('all images', 'teacher right', 'teacher wrong'),
                {name: _points(array) for name, array in values.items()},
                _styles(found),
                'same class (%)',
            ),
            ('method', 'seed', 'all_percent', 'teacher_right_percent', 'teacher_wrong_percent'),
            [
                (method.name, seed, *values[method.name][row])
                for method in found.methods
                if method.name in values
                for row, seed in enumerate(method.seeds)
            ],
        )


def _reliability(found: Measurements) -> Iterator[Exhibit]:
    everyone = {method.name: method.students for method in found.methods}
    everyone |= {name: [teacher.logits] for name, teacher in _teachers(found).items()}
    panels, rows = {}, []
    for name, students in everyone.items():
        error = _spread_text([100 * calibration_error(_bins(logits, found)) for logits in students])
        together = calibration_bins(torch.cat(students).softmax(dim=1), found.labels.repeat(len(students)), NUM_BINS)
        counts, confidence, correct = (values.numpy() for values in together)
        panels[f'{textwrap.fill(name, 24)}\nECE {error} %'] = (counts, confidence, correct)
        rows += [(name, place, *row) for place, row in enumerate(zip(counts, confidence, correct))]
    yield Exhibit(
        'calibration',
        'Is a network as often right as it is sure?',
        f'Accuracy against confidence, the probability of the predicted class, in {NUM_BINS} bins of equal width, '
        f'over {found.data} and all seeds together; on the dashed line they are equal. ECE: expected calibration '
        'error, its mean distance to that line, of each seed.',
        partial(figures.draw_reliability, panels),
        ('network', 'bin', 'images', 'confidence', 'accuracy'),
        rows,
    )


def _corruptions(found: Measurements) -> Iterator[Exhibit]:
    keys = list(found.methods[0].corrupted)
    if not keys:
        return
    names = list(dict.fromkeys(name for name, _ in keys))
    severities = sorted({severity for _, severity in keys})
    everyone = {
        method.name: np.array([method.corrupted[key] for key in keys]) for method in found.methods
    }  # (corruptions x severities, seeds)
    everyone |= {
        name: np.array([[teacher.corrupted[key]] for key in keys]) for name, teacher in _teachers(found).items()
    }
    clean = {method.name: [accuracy(logits, found.labels) for logits in method.students] for method in found.methods}
    clean |= {name: [accuracy(teacher.logits, found.labels)] for name, teacher in _teachers(found).items()}
    seeds: dict[str, list] = {method.name: list(method.seeds) for method in found.methods}
    seeds |= dict.fromkeys(_teachers(found), [''])
    of_name = {name: [place for place, key in enumerate(keys) if key[0] == name] for name in names}
    table = np.array([[array[places].mean() for places in of_name.values()] for array in everyone.values()])
    table = np.column_stack([[np.mean(values) for values in clean.values()], table, table.mean(axis=1)])
    note = (
        'after Hendrycks and Dietterich (ICLR 2019), made by this package: not their files, so the numbers are not '
        'those of CIFAR-C or ImageNet-C'
    )
    yield Exhibit(
        'corruptions',
        'Accuracy under corruptions',
        f'Top-1 accuracy in percent on {found.data}, clean and corrupted, mean over the severities '
        f'{_listed(severities)} and over seeds; corruptions {note}.',
        partial(
            figures.draw_heat_table,
            table,
            list(everyone),
            ['clean', *(name.replace('_', ' ') for name in names), 'mean of the corrupted'],
            'accuracy (%)',
        ),
        ('network', 'seed', 'corruption', 'severity', 'accuracy_percent'),
        [
            *((name, seed, 'clean', 0, value) for name in clean for seed, value in zip(seeds[name], clean[name])),
            *(
                (name, seed, *key, value)
                for name, array in everyone.items()
                for key, row in zip(keys, array)
                for seed, value in zip(seeds[name], row)
            ),
        ],
    )
    lines = {}
    for name, array in everyone.items():
        of_severity = [
            array[[place for place, key in enumerate(keys) if key[1] == level]].mean(axis=0) for level in severities
        ]
        lines[name] = Line(np.array([0, *severities]), np.array([clean[name], *of_severity]).T)
    yield Exhibit(
        'severity',
        'Accuracy against the severity of the corruption',
        f'Top-1 accuracy on {found.data}, mean over the corruptions of the table above; severity 0 is clean. '
        f'{PERCENT_BAND}',
        partial(
            figures.draw_curves,
            [Panel('', 'severity', 'top-1 accuracy (%)', lines, bounds=PERCENT)],
            _styles(found),
        ),
        ('network', 'seed', 'severity', 'accuracy_percent'),
        [
            (name, seed, int(step), value)
            for name, line in lines.items()
            for seed, values in zip(seeds[name], line.values)
            for step, value in zip(line.steps, values)
        ],
    )


# ---------------------------------------------------------------------------------------------------- pictures and cost
def _views(found: Measurements) -> Iterator[Exhibit]:
    shown: list[Method] = []
    for method in found.methods:
        if not method.pictures or any(
            other.augmentation == method.augmentation and _same_pictures(other, method) for other in shown
        ):
            continue
        shown.append(method)
        yield Exhibit(
            f'views_{len(shown)}',
            f'The augmented view of {method.name}',
            f'Validation images with their class, and below the view that {method.augmentation} makes of each, with '
            'the three classes that the teacher finds most probable.',
            partial(figures.draw_pictures, method.pictures),
            ('view', 'place', 'text'),
            [
                (view, place, picture.text.replace('\n', '; '))
                for view, pictures in method.pictures.items()
                for place, picture in enumerate(pictures)
            ],
        )


def _costs(found: Measurements) -> Iterator[Exhibit]:
    last: dict[str, tuple[float, Cost]] = {}
    for method in found.methods:
        mean = spread([accuracy(logits, found.labels) for logits in method.students]).mean
        last[method.name] = (mean, method.cost)
    for name, teacher in _teachers(found).items():
        last[name] = (accuracy(teacher.logits, found.labels), teacher.cost)
    panels: dict[str, dict[str, tuple[float, float]]] = {
        'parameters': {name: (cost.parameters, mean) for name, (mean, cost) in last.items()},
        'multiply-adds for an image': {name: (cost.flops, mean) for name, (mean, cost) in last.items()},
        'latency for an image (ms)': {name: (cost.latency, mean) for name, (mean, cost) in last.items()},
    }
    yield Exhibit(
        'cost',
        'Accuracy against cost',
        f'Top-1 accuracy on {found.data} after the last epoch, mean over seeds, against what one image costs; latency '
        'on the processor of the machine that made this page, which differs from run to run. The cost of a teacher is '
        'that of its first network.',
        partial(figures.draw_scatter, panels, _styles(found), 'top-1 accuracy (%)'),
        ('network', 'accuracy_percent', 'parameters', 'multiply_adds', 'latency_ms'),
        [(name, mean, *_cost_numbers(cost)) for name, (mean, cost) in last.items()],
    )


# ------------------------------------------------------------------------------------------------------------- helpers
def _teachers(found: Measurements) -> dict[str, Teacher]:
    """What taught, once where several methods have the same."""
    distinct: dict[str, Teacher] = {}
    taken = [method.name for method in found.methods]
    for method in found.methods:
        teacher = method.teacher
        if teacher is not None and not any(torch.equal(teacher.logits, other.logits) for other in distinct.values()):
            is_free = teacher.name not in taken and teacher.name not in distinct
            distinct[teacher.name if is_free else f'{teacher.name} of {method.name}'] = teacher
    return distinct


def _target(method: Method, found: Measurements) -> torch.Tensor | None:
    """What the students of a method are compared with: their own teacher, or else that of the others."""
    if method.teacher is not None:
        return method.teacher.logits
    return next((other.teacher.logits for other in found.methods if other.teacher is not None), None)


def _bins(logits: torch.Tensor, found: Measurements) -> Any:
    return calibration_bins(logits.softmax(dim=1), found.labels, NUM_BINS)


def _styles(found: Measurements) -> dict[str, figures.Style]:
    return figures.styles([method.name for method in found.methods], list(_teachers(found)))


def _lines(groups: Sequence[RunGroup], name: str) -> dict[str, Line]:
    """The scalar ``name`` of the groups whose runs all have it, at the steps that they share."""
    lines = {}
    for group in groups:
        series = [run.scalars[name] for run in group.runs if name in run.scalars]
        if len(series) == len(group.runs):
            steps, values = common_steps(series)
            if len(steps):
                lines[group.name] = Line(steps, values)
    return lines


def _series_rows(groups: Sequence[RunGroup], name: str) -> list[tuple]:
    return [
        (group.name, run.seed, step, value)
        for group in groups
        for run in group.runs
        if name in run.scalars
        for step, value in zip(run.scalars[name].steps.tolist(), run.scalars[name].values.tolist())
    ]


def _points(values: NDArray[np.float64]) -> Points:
    """Mean and standard deviation over seeds, the first axis."""
    deviations = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
    return Points(values.mean(axis=0), deviations)


def _spread_text(values: Sequence[float]) -> str:
    if not len(values):
        return '–'
    over_seeds = spread(list(values))
    return f'{over_seeds.mean:.2f}' + ('' if over_seeds.std is None else f' ± {over_seeds.std:.2f}')


def _cost_numbers(cost: Cost) -> tuple[int, int, float]:
    return cost.parameters, cost.flops, cost.latency


def _within(some: dict[str, NDArray], others: dict[str, NDArray]) -> bool:
    return all(name in others and np.array_equal(values, others[name]) for name, values in some.items())


def _same_pictures(one: Method, other: Method) -> bool:
    return all(
        first.text == second.text and np.array_equal(first.pixels, second.pixels)
        for row in one.pictures
        for first, second in zip(one.pictures[row], other.pictures[row])
    )


def _listed(severities: Sequence[int]) -> str:
    return ', '.join(map(str, severities))
