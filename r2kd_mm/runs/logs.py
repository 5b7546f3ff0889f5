"""Read the scalars that MMEngine's ``LocalVisBackend`` logged, such as accuracies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCALARS = '*/vis_data/scalars.json'  # in the folder of a run
METRIC = 'accuracy/top1'  # of mmpretrain's Accuracy, in percent


def logged_rows(log: Path) -> Iterator[dict[str, Any] | None]:
    """Read the rows of one log of ``LocalVisBackend``, in order; each start or resume has its own log.

    A line that was cut off by a kill or a full disk gives ``None``.
    """
    for line in log.read_text(errors='replace').splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        yield row if isinstance(row, dict) else None


def read_accuracies(folder: Path) -> tuple[dict[int, float], dict[str, float]]:
    """Read the accuracy by epoch, and the accuracy of the teachers, from the logs in the folder of a run.

    Each start of the Runner logs to a folder of its own, named by the time. After a resume the later value counts.
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
                if name.endswith('/accuracy')  # of TeacherCheckHook
            }
        )
    if not accuracy:
        raise ValueError(f'the run left no {METRIC!r} in {str(folder)!r}: its logs are gone; train it again')
    return dict(sorted(accuracy.items())), teachers
