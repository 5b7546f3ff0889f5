"""Read and keep what a finished run measured."""

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
    """What a finished run measured.

    Args:
        epochs: When the validation set was looked at, ascending.
        accuracy: Top-1 accuracy on it then, in percent.
        teachers: Name to accuracy of the frozen teachers, in percent; empty without a ``TeacherCheckHook``.
        seconds: Wall time of training; of a resumed run, of all that led to its result, and not what a kill undid.
        cpu_seconds: Likewise, time of the processors; ``None`` in results of earlier versions.
        test: Accuracy on the test set in percent, of the weights after the ``'last'`` epoch and of those of the epoch
            that was ``'best'`` on the validation set; empty where the config has no test set but the validation set.
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

        On a test set, that of the epoch that validation chose, ``None`` where its weights were not kept (``save_best``
        of the checkpoint hook); without one, the highest of all, which flatters because it is chosen on the images it
        is measured on.
        """
        return self.test.get('best') if self.test else max(self.accuracy)


def has_result(run: Run) -> bool:
    """Tell whether the run is finished."""
    return (run.folder / _FILE).is_file()


def save_result(run: Run, result: Result) -> None:
    """Mark the run as finished."""
    AtomicLocalBackend().put_text(json.dumps(vars(result), indent=2), run.folder / _FILE)


def load_result(run: Run) -> Result:
    """The result of a finished run."""
    return Result(**json.loads((run.folder / _FILE).read_text()))


def last_checkpoint(run: Run) -> str:
    """Path of the checkpoint after the last epoch of a finished run, wherever its folder was moved to."""
    return str(run.folder / Path((run.folder / POINTER).read_text()).name)
