"""Turn measurements into exhibits, the sections of the results page: each has a figure, its numbers and a caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from r2kd_mm.moved import old_names
from r2kd_mm.report.exhibits.corruptions import show_corruptions
from r2kd_mm.report.exhibits.costs import show_costs
from r2kd_mm.report.exhibits.exhibit import Exhibit
from r2kd_mm.report.exhibits.pictures import show_errors, show_views
from r2kd_mm.report.exhibits.search import show_searches
from r2kd_mm.report.exhibits.students import (
    show_agreements,
    show_class_accuracies,
    show_confusion_matrices,
    show_confusions,
    show_reliability,
)
from r2kd_mm.report.exhibits.teachers import show_correlations, show_entropies
from r2kd_mm.report.exhibits.training import show_accuracy, show_label_noise, show_losses
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.report.trained_runs import RunGroup

__all__ = ['Exhibit', 'make_exhibits']

__getattr__ = old_names(__name__)


def make_exhibits(groups: Sequence[RunGroup], found: Measurements) -> list[Exhibit]:
    """Make every exhibit that applies to these runs, in the order of the page.

    Example:
        >>> from r2kd_mm.report import find_groups, measure
        >>> groups = find_groups(['work_dirs'])
        >>> exhibits = make_exhibits(groups, measure(groups, 100, [('contrast', 3)], report=lambda line: None))
        >>> [exhibit.name for exhibit in exhibits][:3]
        ['accuracy', 'losses', 'entropy']
    """
    makers: list[Iterator[Exhibit]] = [
        show_accuracy(groups, found),
        show_losses(groups, found),
        show_entropies(found),
        show_correlations(found),
        show_class_accuracies(found),
        show_confusion_matrices(found),
        show_confusions(found),
        show_errors(found),
        show_agreements(found),
        show_reliability(found),
        show_corruptions(found),
        show_label_noise(groups),
        show_views(found),
        show_costs(found),
        show_searches(groups),
    ]
    return [exhibit for maker in makers for exhibit in maker]
