"""Plot accuracy and losses during training, and final accuracy against the share of training labels made wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from mmengine.config import Config

from r2kd_mm.report.exhibits.exhibit import PERCENT_BAND, Exhibit, styles_of
from r2kd_mm.report.figures import PERCENT, Line, Panel, draw_curves
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.report.style import styles
from r2kd_mm.report.trained_runs import RunGroup, common_steps, label_noise
from r2kd_mm.runs import accuracy
from r2kd_mm.runs.logs import METRIC

BAND = 'Line: mean over seeds; band: one standard deviation.'


def show_accuracy(groups: Sequence[RunGroup], found: Measurements) -> Iterator[Exhibit]:
    lines = _lines(groups, METRIC)
    if not lines:
        return
    levels = {name: accuracy(teacher.logits, found.labels) for name, teacher in found.teachers().items()}
    panel = Panel('', 'epoch', 'top-1 accuracy (%)', lines, levels, PERCENT)
    yield Exhibit(
        'accuracy',
        'Accuracy while training',
        f'Top-1 accuracy on the validation images after each epoch that was validated. {PERCENT_BAND}'
        + (f' A level line shows a teacher, measured on {found.data}.' if levels else ''),
        partial(draw_curves, [panel], styles_of(found)),
        ('method', 'seed', 'epoch', 'accuracy_percent'),
        _series_rows(groups, METRIC),
    )


def show_losses(groups: Sequence[RunGroup], found: Measurements) -> Iterator[Exhibit]:
    names = sorted({name for group in groups for run in group.runs for name in run.scalars if 'loss' in name})
    panels = [Panel(name, 'iteration', 'loss', _lines(groups, name)) for name in names]
    panels = [panel for panel in panels if panel.lines]
    if panels:
        yield Exhibit(
            'losses',
            'Losses while training',
            'Every loss on the training images, by its name in the log, with its weight, smoothed as logged. '
            f'"loss" is their sum. Losses of different methods have different scales. {BAND}',
            partial(draw_curves, panels, styles_of(found)),
            ('scalar', 'method', 'seed', 'iteration', 'value'),
            [(panel.title, *row) for panel in panels for row in _series_rows(groups, panel.title)],
        )


def _training_but_labels(config: Config) -> str:
    """Write down all that decides a training, except its seed, its label noise and the weights of its teacher."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(item) for key, item in value.items() if key not in ('label_noise', 'teacher_ckpt')}
        return list(map(without, value)) if isinstance(value, (list, tuple)) else value

    fields = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
    return json.dumps(without({name: config.to_dict().get(name) for name in fields}), sort_keys=True, default=str)


def show_label_noise(groups: Sequence[RunGroup]) -> Iterator[Exhibit]:
    """Show accuracy against label noise; methods that are equal except for the label noise form one line."""
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
            (noise, run.seed): run.scalars[METRIC].values[-1]
            for noise in noises
            for run in family[noise].runs
            if METRIC in run.scalars
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
            partial(draw_curves, [panel], styles(list(lines))),
            ('method', 'seed', 'label_noise', 'accuracy_percent'),
            rows,
        )


def _lines(groups: Sequence[RunGroup], name: str) -> dict[str, Line]:
    """Select the scalar ``name`` of the groups whose runs all have it, at the steps that they share."""
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
