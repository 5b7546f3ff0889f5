"""Show the most confident wrong predictions, and validation images with their augmented versions below."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from r2kd_mm.report.exhibits.exhibit import Exhibit
from r2kd_mm.report.figures import draw_pictures
from r2kd_mm.report.measurements import MeasuredMethod, Measurements

ERRORS_IN_ROW = 6


def show_errors(found: Measurements) -> Iterator[Exhibit]:
    for number, method in enumerate((method for method in found.methods if method.errors), start=1):
        errors, seed = method.errors, '' if len(method.seeds) == 1 else f' of seed {method.seeds[0]}'
        rows = {
            f'{begin + 1} to {min(begin + ERRORS_IN_ROW, len(errors))}': [
                error.picture for error in errors[begin : begin + ERRORS_IN_ROW]
            ]
            for begin in range(0, len(errors), ERRORS_IN_ROW)
        }
        yield Exhibit(
            f'errors_{number}',
            f'The surest errors of {method.name}',
            f'The wrong predictions{seed} with the highest probability, on {found.data}. Look at them: some may be '
            'labelled wrongly. The numbers below name their files.',
            partial(draw_pictures, rows, columns=ERRORS_IN_ROW),
            ('place', 'file', 'class', 'predicted', 'probability_percent'),
            [
                (place, error.file, error.label, error.predicted, error.probability)
                for place, error in enumerate(errors, start=1)
            ],
        )


def show_views(found: Measurements) -> Iterator[Exhibit]:
    shown: list[MeasuredMethod] = []
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
            partial(draw_pictures, method.pictures),
            ('view', 'place', 'text'),
            [
                (view, place, picture.text.replace('\n', '; '))
                for view, pictures in method.pictures.items()
                for place, picture in enumerate(pictures)
            ],
        )


def _same_pictures(one: MeasuredMethod, other: MeasuredMethod) -> bool:
    return all(
        first.text == second.text and np.array_equal(first.pixels, second.pixels)
        for row in one.pictures
        for first, second in zip(one.pictures[row], other.pictures[row])
    )
