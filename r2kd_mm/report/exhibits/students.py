"""Show the students' accuracy by class, their confusions, their agreement with the teacher, and their calibration."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from r2kd_mm.metrics import calibration_bins, calibration_error
from r2kd_mm.report.exhibits.exhibit import Exhibit, bars_of, points, styles_of
from r2kd_mm.report.figures import draw_confusions, draw_dots, draw_reliability
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.report.numbers import (
    NUM_BINS,
    bins_of,
    class_accuracies,
    confusion_matrix,
    confusions,
    most_confused,
    split_agreement,
    spread_text,
)

MOST_CLASSES = 20
MOST_PAIRS = 12


def show_class_accuracies(found: Measurements) -> Iterator[Exhibit]:
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
        f'Share of the images of a class that are predicted right, on {found.data}.{which} {bars_of(found)}',
        partial(
            draw_dots,
            [found.classes[place] for place in shown],
            {name: points(array[:, shown], _class_sizes(found)[shown]) for name, array in values.items()},
            styles_of(found),
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


def show_confusions(found: Measurements) -> Iterator[Exhibit]:
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
        f'Share of the images of the first class that are predicted as the second, on {found.data}. The pairs are '
        f'those that are confused most, in the mean over methods. {bars_of(found)}',
        partial(
            draw_dots,
            [f'{found.classes[i]} → {found.classes[j]}' for i, j in pairs],
            {name: points(array[:, rows, columns], _class_sizes(found)[rows]) for name, array in shares.items()},
            styles_of(found),
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


def show_confusion_matrices(found: Measurements) -> Iterator[Exhibit]:
    matrices = {
        method.name: np.mean([confusion_matrix(logits, found.labels) for logits in method.students], axis=0)
        for method in found.methods
    }
    matrices |= {name: confusion_matrix(teacher.logits, found.labels) for name, teacher in found.teachers().items()}
    yield Exhibit(
        'confusion_matrix',
        'Confusion matrix',
        f'Share of the images of a class (row) that are predicted as each class (column), on {found.data}. The mean '
        'over seeds.',
        partial(draw_confusions, matrices, found.classes),
        ('network', 'class', 'predicted', 'share_percent'),
        [
            (name, found.classes[i], found.classes[j], shares[i, j])
            for name, shares in matrices.items()
            for i, j in zip(*np.nonzero(shares))
        ],
    )


def show_agreements(found: Measurements) -> Iterator[Exhibit]:
    values = {
        method.name: np.array([split_agreement(logits, target, found.labels) for logits in method.students])
        for method in found.methods
        if (target := found.target_of(method)) is not None
    }
    if values:
        yield Exhibit(
            'agreement',
            'Agreement with the teacher',
            f'Share of {found.data} on which student and teacher predict the same class: of all images, and of the '
            'images on which the teacher is right or wrong. A student without a teacher is compared with the teacher '
            f'of the others. {bars_of(found)}',
            partial(
                draw_dots,
                ('all images', 'teacher right', 'teacher wrong'),
                {name: points(array, _agreement_sizes(found, name)) for name, array in values.items()},
                styles_of(found),
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


def show_reliability(found: Measurements) -> Iterator[Exhibit]:
    everyone = {method.name: method.students for method in found.methods}
    everyone |= {name: [teacher.logits] for name, teacher in found.teachers().items()}
    panels, rows = {}, []
    for name, students in everyone.items():
        error = spread_text([100 * calibration_error(bins_of(logits, found.labels)) for logits in students])
        together = calibration_bins(torch.cat(students).softmax(dim=1), found.labels.repeat(len(students)), NUM_BINS)
        counts, confidence, correct = (values.numpy() for values in together)
        panels[f'{textwrap.fill(name, 24)}\nECE {error} %'] = (counts, confidence, correct)
        rows += [(name, place, *row) for place, row in enumerate(zip(counts, confidence, correct))]
    yield Exhibit(
        'calibration',
        'Calibration',
        f'Accuracy against confidence, the probability of the predicted class. {NUM_BINS} bins of equal width over '
        f'{found.data} and all seeds together. On the dashed line accuracy and confidence are equal. ECE: expected '
        'calibration error, the mean distance to that line, computed for each seed.',
        partial(draw_reliability, panels),
        ('network', 'bin', 'images', 'confidence', 'accuracy'),
        rows,
    )


def _class_sizes(found: Measurements) -> NDArray[np.int64]:
    return np.bincount(found.labels.numpy(), minlength=len(found.classes))


def _agreement_sizes(found: Measurements, name: str) -> NDArray[np.int64]:
    """Number of all images, and of those on which the teacher of a method is right and wrong."""
    target = found.target_of(next(method for method in found.methods if method.name == name))
    assert target is not None
    right = int((target.argmax(dim=1) == found.labels).sum())
    return np.array([len(found.labels), right, len(found.labels) - right])
