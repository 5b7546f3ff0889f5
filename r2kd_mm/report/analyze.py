"""Make an HTML page about trained runs: find the runs, measure their networks, draw the figures, write the page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger

from r2kd_mm.corruptions import FAMILIES, NAMES, SEVERITIES
from r2kd_mm.engine.fileio import check_writable
from r2kd_mm.report.exhibits import make_exhibits
from r2kd_mm.report.measure import measure
from r2kd_mm.report.page import write_page
from r2kd_mm.report.summary import make_summary
from r2kd_mm.report.trained_runs import find_groups


def analyze(
    runs: Sequence[str | os.PathLike],
    out: Path,
    names: Sequence[str] | None = None,
    images: int = 2000,
    fast: bool = False,
) -> Path:
    """Make one HTML page about trained runs, and return its path.

    Args:
        runs: Work dirs, or folders that contain work dirs.
        out: Folder of the page.
        names: Names for the methods, in the order in which they are found.
        images: Number of validation images to measure on.
        fast: Measure only one corruption per family, at every second severity.

    Example:
        >>> page = analyze(['work_dirs'], Path('page'), names=['one name'])  # for two methods
        Traceback (most recent call last):
        ...
        r2kd_mm.report.trained_runs.RunError: --names gives 1 names for 2 methods: KD, R2KD
    """
    corruptions = [family[0] for family in FAMILIES.values()] if fast else NAMES
    severities = SEVERITIES[::2] if fast else SEVERITIES
    check_writable(out, 'folder', '--out')  # before minutes of measuring
    groups = find_groups([str(run) for run in runs], names)
    MMLogger.get_instance('analyze', log_level='WARNING')  # not every checkpoint that is loaded
    found = measure(groups, images, [(name, severity) for name in corruptions for severity in severities])
    unreadable = sum(run.unreadable_lines for group in groups for run in group.runs)
    lines = 'line' if unreadable == 1 else 'lines'
    notes = found.notes + ([f'{unreadable} {lines} of the logs could not be read.'] if unreadable else [])
    return write_page(
        out,
        'What the runs did',
        f'{len(groups)} methods, {sum(len(group.runs) for group in groups)} runs. Measured on {found.data}, '
        f'{len(found.classes)} classes.',
        make_summary(found),
        make_exhibits(groups, found),
        notes,
    )
