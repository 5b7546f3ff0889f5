"""Store the results of finished runs in the repository, so that a benchmark can be resumed on another machine.

The stored results replace the folder of the runs if the folder is lost. Each result is one line of JSON, with a digest
of the run's settings. The weights of each small teacher are stored too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import torch

from r2kd_mm.engine import AtomicLocalBackend
from r2kd_mm.engine.resume import POINTER
from r2kd_mm.runs import Run, State, last_checkpoint, look_at
from r2kd_mm.runs.result import Result, load_result, save_result
from r2kd_mm.runs.state import DIGEST_FILE


class Records:
    """The stored results of the finished runs of one training scale.

    Args:
        folder: Folder of the records of all scales; made when the first run is kept.
        runs: Folder of the runs of this scale. A record names a run by its path in it.
    """

    def __init__(self, folder: Path, runs: Path) -> None:
        self.file = folder / f'{runs.name}.jsonl'
        self.weights = folder / runs.name
        self.runs = runs

    def restore(self, runs: Iterable[Run]) -> list[Run]:
        """Write the results that are recorded into the folders of the runs, and return these runs.

        The settings must be the same, to the digest: config, seed, and the content of the teacher's file.
        """
        found = self._read()
        states = look_at(list(runs))
        recorded = [run for run, state in states.items() if state is State.NEW and self._name(run) in found]
        for run in recorded:
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / DIGEST_FILE).write_text(found[self._name(run)]['digest'])
        restored = []
        for run, state in look_at(recorded).items():
            if state is State.CHANGED:  # the record is of other settings
                (run.folder / DIGEST_FILE).unlink()
            else:
                save_result(run, Result(**found[self._name(run)]['result']))
                restored.append(run)
        return restored

    def keep(self, runs: Iterable[Run]) -> None:
        """Record the results of finished runs, each once."""
        found = self._read()
        for run, state in look_at(list(runs)).items():
            if state is State.FINISHED:
                digest = (run.folder / DIGEST_FILE).read_text()
                found[self._name(run)] = dict(digest=digest, result=vars(load_result(run)))
        lines = [json.dumps(dict(run=name, **line)) + '\n' for name, line in sorted(found.items())]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        AtomicLocalBackend().put_text(''.join(lines), self.file)

    def teacher(self, run: Run) -> Path:
        """Return the file of a finished teacher's weights; the first call makes it from the last checkpoint."""
        digest = (run.folder / DIGEST_FILE).read_text()
        path = self.weights / f'{self._name(run).replace("/", "_")}_{digest}.pth'
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            weights = torch.load(last_checkpoint(run), map_location='cpu', weights_only=False)['state_dict']
            content = io.BytesIO()
            torch.save(dict(state_dict=weights), content)
            AtomicLocalBackend().put(content.getvalue(), path)  # a part of a file would pass for the whole
        if not (run.folder / POINTER).is_file():  # restored: whoever needs its last checkpoint finds the weights
            (run.folder / path.name).write_bytes(path.read_bytes())
            (run.folder / POINTER).write_text(str(run.folder / path.name))
        return path

    def _name(self, run: Run) -> str:
        return run.folder.relative_to(self.runs).as_posix()

    def _read(self) -> dict[str, dict]:
        if not self.file.is_file():
            return {}
        lines = map(json.loads, self.file.read_text().splitlines())
        return {line.pop('run'): line for line in lines}
