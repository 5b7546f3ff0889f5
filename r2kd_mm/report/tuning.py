"""Show how tuning changed the test accuracy of each config, and how each hyper-parameter affects the accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from r2kd_mm.report.style import COLORS, WIDTH, current_ink, save_png
from r2kd_mm.report.table import format_difference, format_spread, make_rows, markdown_table
from r2kd_mm.runs import Method, Result

if TYPE_CHECKING:
    import optuna

MOST_COLUMNS = 3


def tuning_table(searches: Sequence[tuple[Method, Method, Mapping[Method, Mapping[int, Result]], optuna.Study]]) -> str:
    """Format a table of test accuracies that compares each config with its tuned version, paired by seed.

    Args:
        searches: For each search: the untuned config, the tuned config, the results of both by seed, and the study.
    """
    from optuna.trial import TrialState

    lines = [
        [
            'method',
            'as it is, test, %',
            'tuned, test, %',
            'tuned against as it is, points [95 % interval]',
            'seeds',
            'trials (stopped early)',
            'chosen values',
        ]
    ]
    for untuned, tuned, results, study in searches:
        before, after = make_rows({untuned: results[untuned], tuned: results[tuned]}, untuned.name)
        trial = study.trials[int(tuned.name.rpartition(' ')[2])]
        stopped = len(study.get_trials(states=(TrialState.PRUNED,)))
        values = ', '.join(f'{name} {_format(value)}' for name, value in trial.params.items())
        lines.append(
            [
                untuned.name,
                format_spread(before.last),
                format_spread(after.last),
                format_difference(after.difference),
                str(len(after.results)),
                f'{len(study.trials)} ({stopped})',
                values,
            ]
        )
    return markdown_table(lines)


def plot_search(folder: Path, study: optuna.Study, title: str) -> None:
    """Write ``importance.png`` and ``slices.png``; without two trials of different accuracy there is nothing to draw.

    Args:
        folder: Folder of the files.
        study: The study.
        title: Name of the method.
    """
    if is_drawable(study):
        save_png(partial(draw_importance, study, f'{title}: importance of each knob'), folder / 'importance.png')
        save_png(partial(draw_slices, study, f'{title}: every trial that came to its end'), folder / 'slices.png')


def is_drawable(study: optuna.Study) -> bool:
    """Tell whether two trials came to their end, with different accuracies."""
    return len({trial.value for trial in completed(study)}) > 1


def completed(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that came to their end."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE,))


def importances(study: optuna.Study) -> dict[str, float]:
    """Compute the share of the variance of the accuracy that each knob explains (fANOVA), the largest first."""
    import optuna

    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))


def draw_importance(study: optuna.Study, title: str = '') -> Figure:
    """Draw a bar for each knob."""
    shares = importances(study)
    figure = Figure(figsize=(WIDTH, 1.4 + 0.35 * len(shares)))
    axes = figure.subplots()
    axes.barh(range(len(shares)), [100 * share for share in shares.values()], color=COLORS[0])
    axes.set_yticks(range(len(shares)), list(shares))
    axes.invert_yaxis()
    axes.grid(axis='y', visible=False)
    axes.set(xlabel='share of the variance of the validation accuracy (%)')
    figure.suptitle(title)
    return figure


def draw_slices(study: optuna.Study, title: str = '') -> Figure:
    """Draw the accuracy of every trial against the value of each knob; a circle marks the best trial."""
    trials, knobs = completed(study), list(importances(study))
    best = max(trials, key=lambda trial: trial.value)
    columns = min(MOST_COLUMNS, len(knobs))
    rows = -(-len(knobs) // columns)
    figure = Figure(figsize=(WIDTH, 2.6 * rows + 0.6))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for place in range(rows * columns):
        axes = grid[place // columns, place % columns]
        if place >= len(knobs):
            axes.set_visible(False)
            continue
        name = knobs[place]
        axes.scatter([trial.params[name] for trial in trials], [trial.value for trial in trials], s=18, color=COLORS[0])
        axes.scatter(best.params[name], best.value, s=60, facecolor='none', edgecolor=current_ink())
        if getattr(best.distributions[name], 'log', False):
            axes.set_xscale('log')
        axes.set(xlabel=name, ylabel='' if place % columns else 'validation accuracy (%)')
    figure.suptitle(title)
    return figure


def _format(value: Any) -> str:
    return f'{value:.3g}' if isinstance(value, float) else str(value)
