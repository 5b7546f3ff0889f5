"""Show pictures of the augmented views."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from r2kd_mm.report.exhibits.exhibit import Exhibit
from r2kd_mm.report.figures import draw_pictures
from r2kd_mm.report.measurements import MeasuredMethod, Measurements


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
