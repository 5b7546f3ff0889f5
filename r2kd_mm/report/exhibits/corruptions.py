"""Show the accuracy of trained networks on corrupted images, by kind of corruption and by severity."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from r2kd_mm.report.exhibits.exhibit import PERCENT_BAND, Exhibit, styles_of
from r2kd_mm.report.figures import PERCENT, Line, Panel, draw_curves, draw_heat_table
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.runs import accuracy


def show_corruptions(found: Measurements) -> Iterator[Exhibit]:
    keys = list(found.methods[0].corrupted)
    if not keys:
        return
    names = list(dict.fromkeys(name for name, _ in keys))
    severities = sorted({severity for _, severity in keys})
    everyone = {
        method.name: np.array([method.corrupted[key] for key in keys]) for method in found.methods
    }  # (corruptions x severities, seeds)
    everyone |= {
        name: np.array([[teacher.corrupted[key]] for key in keys]) for name, teacher in found.teachers().items()
    }
    clean = {method.name: [accuracy(logits, found.labels) for logits in method.students] for method in found.methods}
    clean |= {name: [accuracy(teacher.logits, found.labels)] for name, teacher in found.teachers().items()}
    seeds: dict[str, list] = {method.name: list(method.seeds) for method in found.methods}
    seeds |= dict.fromkeys(found.teachers(), [''])
    of_name = {name: [place for place, key in enumerate(keys) if key[0] == name] for name in names}
    table = np.array([[array[places].mean() for places in of_name.values()] for array in everyone.values()])
    table = np.column_stack([[np.mean(values) for values in clean.values()], table, table.mean(axis=1)])
    note = (
        'after Hendrycks and Dietterich (ICLR 2019), made by this package: they are not their files, so the numbers '
        'cannot be compared with CIFAR-C or ImageNet-C'
    )
    yield Exhibit(
        'corruptions',
        'Accuracy under corruptions',
        f'Top-1 accuracy in percent on {found.data}, clean and corrupted, mean over the severities '
        f'{", ".join(map(str, severities))} and over seeds; corruptions {note}.',
        partial(
            draw_heat_table,
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
            draw_curves,
            [Panel('', 'severity', 'top-1 accuracy (%)', lines, bounds=PERCENT)],
            styles_of(found),
        ),
        ('network', 'seed', 'severity', 'accuracy_percent'),
        [
            (name, seed, int(step), value)
            for name, line in lines.items()
            for seed, values in zip(seeds[name], line.values)
            for step, value in zip(line.steps, values)
        ],
    )
