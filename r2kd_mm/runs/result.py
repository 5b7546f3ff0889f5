"""Save and load the result of a finished run: accuracies of student and teachers, and training time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from r2kd_mm.engine import AtomicLocalBackend
from r2kd_mm.engine.resume import POINTER
from r2kd_mm.runs.plan import Run

_FILE = 'result.json'  # there when the run is finished


@dataclass(frozen=True)
class Result:
    """Result of a finished run.

    Args:
        epochs: Epochs after which the run was validated, in ascending order.
        accuracy: Top-1 accuracy on the validation set after each of these epochs, in percent.
        teachers: Accuracy of each frozen teacher in percent, by name; empty without a ``TeacherCheckHook``.
        seconds: Wall time of training. For a resumed run, the sum over all starts, without work lost by a kill.
        cpu_seconds: CPU time of training, summed in the same way; ``None`` in results of earlier versions.
        test: Test accuracy in percent of the weights after the ``'last'`` epoch, and after the epoch that was
            ``'best'`` on the validation set. Empty if the config has no separate test set.

    Example:
        >>> result = Result(epochs=[1, 2], accuracy=[72.0, 71.0], teachers={}, seconds=60.0)
        >>> result.last, result.best
        (71.0, 72.0)
    """

    epochs: list[int]
    accuracy: list[float]
    teachers: dict[str, float]
    seconds: float
    cpu_seconds: float | None = None
    test: dict[str, float] = field(default_factory=dict)

    @property
    def last(self) -> float:
        """Accuracy after the last epoch, on the test set where there is one."""
        return self.test.get('last', self.accuracy[-1])

    @property
    def best(self) -> float | None:
        """Accuracy of the best epoch.

        With a test set, validation chooses the epoch. ``None`` then means that the weights of that epoch were not kept
        (``save_best`` of the checkpoint hook). Without a test set, the highest accuracy of all. It is too optimistic,
        because the epoch is chosen on the images that it is measured on.
        """
        return self.test.get('best') if self.test else max(self.accuracy)


def has_result(run: Run) -> bool:
    """Tell whether the run is finished."""
    return (run.folder / _FILE).is_file()


def save_result(run: Run, result: Result) -> None:
    """Mark the run as finished."""
    AtomicLocalBackend().put_text(json.dumps(vars(result), indent=2), run.folder / _FILE)


def load_result(run: Run) -> Result:
    """Read the result of a finished run.

    Example:
        >>> from r2kd_mm.runs import Method
        >>> run = Run(Method('KD', 'kd.py'), seed=0, folder=Path('work_dirs/KD/seed_0'))

        >>> load_result(run).epochs
        [1]
    """
    return Result(**json.loads((run.folder / _FILE).read_text()))


def last_checkpoint(run: Run) -> str:
    """Return the path of the last checkpoint of a finished run; its folder may have been moved.

    Example:
        >>> from r2kd_mm.runs import Method
        >>> run = Run(Method('KD', 'kd.py'), seed=0, folder=Path('work_dirs/KD/seed_0'))

        >>> last_checkpoint(run)
        'work_dirs/KD/seed_0/epoch_1.pth'
    """
    return str(run.folder / Path((run.folder / POINTER).read_text()).name)
