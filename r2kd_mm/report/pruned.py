"""Measure how pruned copies of a teacher differ from the unpruned teacher, and write tables and a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from r2kd_mm.functional import agreement, entropy
from r2kd_mm.report.figures import COLUMNS as PANELS
from r2kd_mm.report.figures import grid_of_panels, legend_above
from r2kd_mm.report.style import current_ink, save_png, styles
from r2kd_mm.report.table import markdown_table
from r2kd_mm.runs import accuracy


@dataclass(frozen=True)
class PrunedTeacher:
    """Measurements of a pruned copy of a teacher on a set of images.

    Args:
        pruner: Name of the pruner.
        amount: Requested share of weights or channels to prune, in ``[0, 1)``.
        sparsity: Share of the weights that were pruned, in ``[0, 1)``.
        accuracy: Top-1 accuracy in percent; ``None`` if the labels do not apply, as for mixed images.
        ensemble_accuracy: Top-1 accuracy of the weighted mean of the logits of full teacher and copy, in percent; or
            ``None``.
        entropy: Mean entropy of the class probabilities over the images, in nats.
        agreement: Percent of the images for which copy and full teacher predict the same class.
        divergence: Mean Kullback-Leibler divergence KL(full teacher || copy) of the class probabilities, in nats.

    Example:
        >>> PrunedTeacher('magnitude', 0.1, 0.1, 91.78, 91.98, 0.174, 98.73, 0.005).agreement
        98.73
    """

    pruner: str
    amount: float
    sparsity: float
    accuracy: float | None
    ensemble_accuracy: float | None
    entropy: float
    agreement: float
    divergence: float


# Measure to its name with its unit, in the order of tables and plots.
COLUMNS = {
    'accuracy': 'accuracy, %',
    'ensemble_accuracy': 'accuracy of the ensemble, %',
    'entropy': 'mean entropy, nats',
    'agreement': 'agreement with the full teacher, %',
    'divergence': 'KL divergence to the full teacher, nats',
}


def judge(
    pruner: str,
    amount: float,
    sparsity: float,
    logits: Tensor,
    full_logits: Tensor,
    labels: Tensor | None,
    teacher_weight: float = 0.7,
) -> PrunedTeacher:
    """Judge a pruned teacher by its logits.

    Args:
        pruner: See :class:`PrunedTeacher`.
        amount: See :class:`PrunedTeacher`.
        sparsity: See :class:`PrunedTeacher`.
        logits: Logits of the pruned teacher, shape ``(images, classes)``.
        full_logits: Logits of the full teacher.
        labels: Class indices ``(images,)``; ``None`` where none hold.
        teacher_weight: Share of the full teacher in the ensemble.

    Example:
        >>> import torch
        >>> full = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> copy = judge('random', 0.5, 0.5, torch.tensor([[2.0, 0.0], [2.0, 0.0]]), full, torch.tensor([0, 1]))
        >>> copy.accuracy, copy.ensemble_accuracy, copy.agreement
        (50.0, 100.0, 50.0)
    """
    ensemble = teacher_weight * full_logits + (1 - teacher_weight) * logits
    log_prob, full_log_prob = logits.double().log_softmax(dim=1), full_logits.double().log_softmax(dim=1)
    return PrunedTeacher(
        pruner,
        amount,
        sparsity,
        None if labels is None else accuracy(logits, labels),
        None if labels is None else accuracy(ensemble, labels),
        entropy(logits.double()).mean().item(),
        agreement(logits, full_logits),
        functional.kl_div(log_prob, full_log_prob, reduction='batchmean', log_target=True).item(),
    )


def pruned_to_markdown(full: PrunedTeacher, pruned: Sequence[PrunedTeacher], default: tuple[str, float]) -> str:
    """Format the numbers as a Markdown table, the full teacher first.

    Args:
        full: The full teacher.
        pruned: Its pruned copies.
        default: Pruner and amount of R2KD, to be marked.

    Example:
        >>> full = PrunedTeacher('none', 0.0, 0.0, None, None, 0.1, 100.0, 0.0)
        >>> copy = PrunedTeacher('magnitude', 0.1, 0.1, None, None, 0.2, 99.0, 0.01)
        >>> pruned_to_markdown(full, [copy], default=('magnitude', 0.1)).splitlines()[-1].split()[:6]
        ['|', 'magnitude', '(R2KD)', '|', '0.1', '|']
    """
    measures = [name for name in COLUMNS if getattr(full, name) is not None]
    lines = [['pruner', 'amount', 'weights gone, %', *(COLUMNS[name] for name in measures)]]
    for copy in (full, *pruned):
        mark = ' (R2KD)' if (copy.pruner, copy.amount) == default else ''
        numbers = [f'{getattr(copy, name):.{3 if "nats" in COLUMNS[name] else 2}f}' for name in measures]
        lines.append([f'{copy.pruner}{mark}', f'{copy.amount:g}', f'{100 * copy.sparsity:.2f}', *numbers])
    return markdown_table(lines)


def pruned_to_csv(full: PrunedTeacher, pruned: Sequence[PrunedTeacher]) -> str:
    """Format the same numbers in full as comma-separated values; a field that was not measured is empty.

    Example:
        >>> full = PrunedTeacher('none', 0.0, 0.0, None, None, 0.1, 100.0, 0.0)
        >>> print(pruned_to_csv(full, []).splitlines()[-1])
        none,0.0,0.0,,,0.1,100.0,0.0
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([field.name for field in fields(PrunedTeacher)])
    writer.writerows(astuple(copy) for copy in (full, *pruned))
    return text.getvalue()


def plot_pruned_teachers(
    path: Path, full: PrunedTeacher, pruned: Sequence[PrunedTeacher], title: str, marked_amount: float
) -> None:
    """Plot what is left of a teacher against the amount that was pruned, a panel for each measure.

    Args:
        path: The PNG to write.
        full: The teacher.
        pruned: Its pruned copies.
        title: Teacher and images.
        marked_amount: The amount of R2KD, marked by a line.

    Example:
        >>> full = PrunedTeacher('none', 0.0, 0.0, None, None, 0.1, 100.0, 0.0)
        >>> pruned = [PrunedTeacher('magnitude', amount, amount, None, None, 0.2, 99.0, 0.01) for amount in (0.1, 0.2)]
        >>> plot_pruned_teachers(Path('pruned.png'), full, pruned, 'A teacher', marked_amount=0.1)
    """
    measures = [(name, label) for name, label in COLUMNS.items() if getattr(full, name) is not None]
    looks = styles(list(dict.fromkeys(copy.pruner for copy in pruned)))

    def draw() -> Figure:
        figure, grid = grid_of_panels(len(measures), PANELS, height=3.3)
        for axes, (name, label) in zip(grid, measures):
            axes.axhline(getattr(full, name), color=current_ink(), linewidth=1.2, linestyle='-.', label='full teacher')
            axes.axvline(
                marked_amount,
                color=current_ink(),
                linewidth=1,
                linestyle=':',
                label=f'amount in R2KD ({marked_amount})',
            )
            for pruner, look in looks.items():
                points = [(copy.amount, getattr(copy, name)) for copy in pruned if copy.pruner == pruner]
                axes.plot(
                    *zip(*points),
                    look.line,
                    color=look.ink,
                    marker=look.marker,
                    markersize=4,
                    linewidth=1.6,
                    label=pruner,
                )
            axes.set(xlabel='amount pruned', ylabel=label)
        legend_above(figure, grid, title)
        return figure

    save_png(draw, path)
