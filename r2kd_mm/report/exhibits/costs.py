"""Show the accuracy of each network against its number of parameters, its multiply-adds and its latency."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from functools import partial

from r2kd_mm.report.exhibits.exhibit import Exhibit, styles_of
from r2kd_mm.report.figures import draw_scatter
from r2kd_mm.report.measurements import Cost, Measurements
from r2kd_mm.runs import accuracy, spread


def show_costs(found: Measurements) -> Iterator[Exhibit]:
    last: dict[str, tuple[float, Cost]] = {}
    for method in found.methods:
        mean = spread([accuracy(logits, found.labels) for logits in method.students]).mean
        last[method.name] = (mean, method.cost)
    for name, teacher in found.teachers().items():
        last[name] = (accuracy(teacher.logits, found.labels), teacher.cost)
    panels: dict[str, dict[str, tuple[float, float]]] = {
        'parameters': {name: (cost.parameters, mean) for name, (mean, cost) in last.items()},
        'multiply-adds for an image': {name: (cost.flops, mean) for name, (mean, cost) in last.items()},
        'latency for an image (ms)': {name: (cost.latency, mean) for name, (mean, cost) in last.items()},
    }
    yield Exhibit(
        'cost',
        'Accuracy against cost',
        f'Top-1 accuracy on {found.data} after the last epoch, mean over seeds, against the cost of one image. The '
        'latency is measured on the processor that made this page and differs from run to run. The cost of '
        'several teachers is the sum of their costs.',
        partial(draw_scatter, panels, styles_of(found), 'top-1 accuracy (%)'),
        ('network', 'accuracy_percent', 'parameters', 'multiply_adds', 'latency_ms'),
        [(name, mean, *astuple(cost)) for name, (mean, cost) in last.items()],
    )
