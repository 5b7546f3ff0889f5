"""Read the scalars that MMEngine's LocalVisBackend wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCALARS = '*/vis_data/scalars.json'  # in the folder of a run
METRIC = 'accuracy/top1'  # of mmpretrain's Accuracy, in percent


def logged_rows(log: Path) -> Iterator[dict[str, Any] | None]:
    """The lines that MMEngine's LocalVisBackend logged from one start of a run on, in order.

    A line that a killed run or a full disk cut off comes as ``None``.
    """
    for line in log.read_text(errors='replace').splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        yield row if isinstance(row, dict) else None


def read_accuracies(folder: Path) -> tuple[dict[int, float], dict[str, float]]:
    """Accuracy by epoch, and of the teachers, from the scalars that MMEngine's LocalVisBackend wrote.

    Each start of the Runner writes a folder of its own, named by the time; after a resume the later value counts.
    """
    accuracy, teachers = {}, {}
    rows = (row for log in sorted(folder.glob(SCALARS)) for row in logged_rows(log))
    for scalars in filter(None, rows):
        if METRIC in scalars:
            accuracy[scalars['step']] = scalars[METRIC]
        teachers.update(
            {
                name.removesuffix('/accuracy'): value
                for name, value in scalars.items()
                if name.endswith('teacher/accuracy')
            }
        )
    if not accuracy:
        raise ValueError(f'the run left no {METRIC!r} in {str(folder)!r}: its logs are gone; train it anew')
    return dict(sorted(accuracy.items())), teachers
