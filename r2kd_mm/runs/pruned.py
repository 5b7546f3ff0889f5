"""What pruning leaves of a teacher."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from torch import Tensor
from torch.nn import functional

from r2kd_mm.functional import entropy
from r2kd_mm.runs.logits import accuracy
from r2kd_mm.runs.report import markdown_table


@dataclass(frozen=True)
class PrunedTeacher:
    """What a pruned copy of a teacher says of a set of images.

    Args:
        pruner: Name of the pruner.
        amount: What it was asked to remove, in ``[0, 1)``: of the weights, or of the channels.
        sparsity: Part of the weights that went, in ``[0, 1)``.
        accuracy: Top-1, in percent; ``None`` where the images have no labels that hold.
        ensemble_accuracy: That of the weighted logits of the full teacher and this copy, likewise.
        entropy: Mean over the images, of the class probabilities, in nats.
        agreement: Part of the images on which it names the class that the full teacher names, in percent.
        divergence: Mean Kullback-Leibler divergence from the full teacher's class probabilities to its own, in nats.
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
        amount: Likewise.
        sparsity: Likewise.
        logits: Of the pruned teacher, shape ``(images, classes)``.
        full_logits: Of the full teacher.
        labels: Class indices ``(images,)``; ``None`` where none hold.
        teacher_weight: Share of the full teacher in the ensemble.
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
        100 * (logits.argmax(dim=1) == full_logits.argmax(dim=1)).double().mean().item(),
        functional.kl_div(log_prob, full_log_prob, reduction='batchmean', log_target=True).item(),
    )


def pruned_to_markdown(full: PrunedTeacher, pruned: Sequence[PrunedTeacher], default: tuple[str, float]) -> str:
    """A Markdown table, the full teacher first.

    Args:
        full: The full teacher.
        pruned: Its pruned copies.
        default: Pruner and amount of R2KD, to be marked.
    """
    measures = [name for name in COLUMNS if getattr(full, name) is not None]
    lines = [['pruner', 'amount', 'weights gone, %', *(COLUMNS[name] for name in measures)]]
    for copy in (full, *pruned):
        mark = ' (R2KD)' if (copy.pruner, copy.amount) == default else ''
        numbers = [f'{getattr(copy, name):.{3 if "nats" in COLUMNS[name] else 2}f}' for name in measures]
        lines.append([f'{copy.pruner}{mark}', f'{copy.amount:g}', f'{100 * copy.sparsity:.2f}', *numbers])
    return markdown_table(lines)


def pruned_to_csv(full: PrunedTeacher, pruned: Sequence[PrunedTeacher]) -> str:
    """The same numbers in full as comma-separated values, with an empty field for what was not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([field.name for field in fields(PrunedTeacher)])
    writer.writerows(astuple(copy) for copy in (full, *pruned))
    return text.getvalue()
