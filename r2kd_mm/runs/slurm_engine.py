"""Train runs as SLURM jobs, submitted by submitit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError

from r2kd_mm.runs.grid import Ended, Outcome, train_and_log
from r2kd_mm.runs.plan import Run

CLUSTER = 'cluster'
_HOURS = 24  # of a job, unless timeout_min says more or less; a job that needs longer is queued again by itself
_POLL_SECONDS = 1.0
_SECONDS_BETWEEN_QUESTIONS = 20.0  # to SLURM, how the jobs are
_TIMEOUTS = 1000  # of a job, each of which resumes it


class SlurmEngine:
    """Engine that trains each run as a SLURM job; runs submitted together form one job array.

    Args:
        folder: Folder for the files of submitit; all machines of the cluster must share it.
        jobs: Number of runs at a time; ``None`` sets no limit, so SLURM decides.
        threads: Number of CPUs of each job, and number of threads of its run.
        options: Parameters of ``submitit.AutoExecutor.update_parameters``, and ``cluster``: ``'slurm'``, or
            ``'local'`` for processes on this machine.

    Raises:
        ConnectionError: This machine cannot submit jobs.
        ValueError: submitit does not know an option.
    """

    def __init__(
        self, folder: Path, jobs: int | None = None, threads: int = 1, options: Mapping[str, Any] | None = None
    ) -> None:
        parameters = dict(options or {})
        self.cluster = parameters.pop(CLUSTER, 'slurm')
        folder.mkdir(parents=True, exist_ok=True)
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=_TIMEOUTS)
        except RuntimeError as error:
            raise ConnectionError(
                f'--engine slurm cannot submit jobs here: {error} Call it where sbatch works, or try it by --slurm '
                'cluster=local'
            ) from error
        try:
            executor.update_parameters(**{'timeout_min': 60 * _HOURS, 'cpus_per_task': threads, **parameters})
            if jobs is not None:
                executor.update_parameters(slurm_array_parallelism=jobs)
        except (NameError, AssertionError) as error:
            raise ValueError(f'--slurm: {str(error).splitlines()[0]}') from error
        self.jobs, self.threads, self.parameters = jobs, threads, parameters
        self._executor = executor
        self._pending: deque[Run] = deque()
        self._jobs: dict[submitit.Job, Run] = {}
        self._asked = time.monotonic()

    @property
    def slots(self) -> int | None:
        """Number of runs at a time, if there is a limit."""
        return self.jobs

    def __str__(self) -> str:
        """Say where runs are trained."""
        number = 'as many at a time as the cluster starts' if self.jobs is None else f'{self.jobs} at a time'
        asked = ', '.join(f'{name}={value}' for name, value in self.parameters.items())
        place = 'as jobs of SLURM' if self.cluster == 'slurm' else f'as jobs of submitit on cluster {self.cluster!r}'
        return f'{place}, {number}, with {self.threads} CPU{"s" if self.threads > 1 else ""} each' + (
            f' ({asked})' if asked else ''
        )

    def submit(self, runs: Sequence[Run]) -> None:
        """Give SLURM the runs as one job array."""
        self._pending.extend(runs)
        self._assign()

    def wait(self) -> list[Ended]:
        """Wait a moment, and return the runs whose jobs have ended since."""
        time.sleep(_POLL_SECONDS)
        ask = time.monotonic() - self._asked > _SECONDS_BETWEEN_QUESTIONS
        if ask:
            self._asked = time.monotonic()
        # the first question is answered for all jobs
        done = [job for place, job in enumerate(self._jobs) if job.done(force_check=ask and place == 0)]
        ended = [_end_of(job, self._jobs.pop(job)) for job in done]
        self._assign()
        return ended

    def stop(self) -> None:
        """Cancel the jobs that still run; each stops as on SIGTERM, with a checkpoint."""
        self._pending.clear()
        for job in self._jobs:
            job.cancel(check=False)
        self._jobs.clear()

    def _assign(self) -> None:
        # an array has its own limit; the jobs of submitit on one machine have none
        room = len(self._pending) if self.cluster == 'slurm' or self.jobs is None else self.jobs - len(self._jobs)
        runs = [self._pending.popleft() for _ in range(min(room, len(self._pending)))]
        if runs:
            self._jobs.update(zip(self._executor.map_array(_Task(Path.cwd(), self.threads), runs), runs))


class _Task:
    """Train a run in a job.

    A run that SLURM stops ends by ``SystemExit``, which is passed on: then SLURM may queue the job again by itself.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads

    def __call__(self, run: Run) -> tuple[Outcome, str]:
        return train_and_log(run, self.folder, self.threads)

    def checkpoint(self, run: Run) -> submitit.helpers.DelayedSubmission:
        """Queue the job again when its time is over; submitit calls it."""
        return submitit.helpers.DelayedSubmission(self, run)


def _end_of(job: submitit.Job, run: Run) -> Ended:
    try:
        return Ended(run, *job.result())
    except FailedJobError:  # an UncompletedJobError too
        return Ended(run, Outcome.FAILED, f'its job {job.job_id} failed outside of the run ({job.paths.stderr})')
    except UncompletedJobError:
        return Ended(run, Outcome.DIED, f'its job {job.job_id} ended without a result ({job.state})')
