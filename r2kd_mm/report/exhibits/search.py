"""Show all trials of the searches that produced the given runs, and the importance of each hyper-parameter."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import partial

from r2kd_mm.engine.study import JOURNAL, open_study
from r2kd_mm.report.exhibits.exhibit import Exhibit
from r2kd_mm.report.trained_runs import RunGroup
from r2kd_mm.report.tuning import completed, draw_importance, draw_slices, importances, is_drawable


def show_searches(groups: Sequence[RunGroup]) -> Iterator[Exhibit]:
    """Show each search of ``tools/tune.py`` whose folder contains a given run; show nothing if Optuna is missing."""
    if importlib.util.find_spec('optuna') is None:
        return
    folders = dict.fromkeys(run.folder.resolve().parents[2] for group in groups for run in group.runs)
    for number, folder in enumerate(folder for folder in folders if (folder / JOURNAL).is_file()):
        study = open_study(folder / JOURNAL)
        if not is_drawable(study):
            continue
        trials, suffix = completed(study), f'_{number}' if number else ''
        knobs = list(importances(study))
        count = f'{len(trials)} of {len(study.trials)} trials came to their end'
        yield Exhibit(
            f'importance{suffix}',
            f'{folder.name}: importance of each knob',
            f'Share of the variance of the validation accuracy that each knob explains (fANOVA). {count}.',
            partial(draw_importance, study),
            ('knob', 'share'),
            list(importances(study).items()),
        )
        yield Exhibit(
            f'slices{suffix}',
            f'{folder.name}: every trial',
            f'Accuracy on the validation images after the last epoch against the value of each knob; one seed. '
            f'{count}. The circle marks the best trial.',
            partial(draw_slices, study),
            ('trial', 'accuracy_percent', *knobs),
            [(trial.number, trial.value, *(trial.params[name] for name in knobs)) for trial in trials],
        )
