"""Show the entropy of the teachers' predictions, and the correlation between the logits of every two classes.

The correlations of the students are shown below, to compare them with those of their teacher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from r2kd_mm.functional import class_correlation
from r2kd_mm.report.exhibits.exhibit import Exhibit
from r2kd_mm.report.figures import draw_histograms, draw_maps
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.report.numbers import entropies


def show_entropies(found: Measurements) -> Iterator[Exhibit]:
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
            'Entropy of the teachers',
            f'Entropy of the class probabilities of each teacher, and of the mixture that teaches. It is measured on '
            f'{count} validation images, clean and augmented as in training. 0: one class is certain; {largest:.2f}: '
            'all classes are equally probable. Teachers that several methods share are shown once.',
            partial(draw_histograms, panels, 'entropy (nats)', largest),
            ('panel', 'network', 'image', 'entropy_nats'),
            [
                (panel, name, image, value)
                for panel, values in panels.items()
                for name, column in values.items()
                for image, value in enumerate(column.tolist())
            ],
        )


def show_correlations(found: Measurements) -> Iterator[Exhibit]:
    maps: dict[str, NDArray] = {}
    references: dict[str, NDArray] = {}
    for name, teacher in found.teachers().items():
        maps[name] = class_correlation(teacher.logits).numpy()
    for method in found.methods:
        maps[method.name] = torch.stack([class_correlation(logits) for logits in method.students]).mean(dim=0).numpy()
        target = found.target_of(method)
        if target is not None:
            references[method.name] = class_correlation(target).numpy()
    pairs = list(np.ndindex(len(found.classes), len(found.classes)))
    yield Exhibit(
        'class_correlation',
        'Similar classes',
        f'Correlation between the logits of every two classes over {found.data}, mean over seeds. Below each student '
        'is its difference to its teacher; a student without a teacher is compared with the teacher of the others. '
        'White: not correlated, or no difference.',
        partial(draw_maps, maps, references, found.classes),
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


def _within(some: dict[str, NDArray], others: dict[str, NDArray]) -> bool:
    return all(name in others and np.array_equal(values, others[name]) for name, values in some.items())
