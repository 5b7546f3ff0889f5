"""Train runs on a Ray cluster; without a cluster, Ray starts one on this machine."""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from r2kd_mm.runs.grid import Ended, Outcome, train_and_log
from r2kd_mm.runs.plan import Run

_POLL_SECONDS = 1.0


class RayEngine:
    """Engine that trains each run as a Ray task.

    Ray connects to the cluster in ``RAY_ADDRESS`` or on this machine; if there is none, it starts a cluster here. All
    machines of the cluster must share the folder of the runs and have this package installed.

    Args:
        jobs: Number of runs at a time; ``None`` for as many as the CPUs and GPUs of the cluster allow.
        threads: Number of CPUs that each run reserves, and number of its threads.
        jobs_per_gpu: Number of runs that share a GPU; 0 uses no GPU. Ignored on a cluster without GPUs.

    Raises:
        ConnectionError: The cluster cannot be reached.
        ValueError: No machine of the cluster has enough CPUs or GPUs for one run.
    """

    def __init__(self, jobs: int | None = None, threads: int = 1, jobs_per_gpu: int = 1) -> None:
        if not ray.is_initialized():
            _check_reachable(os.environ.get('RAY_ADDRESS', ''))
            ray.init(log_to_driver=False, include_dashboard=False)
        self.threads = threads
        self.gpus = ray.cluster_resources().get('GPU', 0.0)
        self.share = 1 / jobs_per_gpu if self.gpus and jobs_per_gpu else 0.0
        machines = [node['Resources'] for node in ray.nodes() if node['Alive']]
        room = sum(self._room(machine) for machine in machines)
        if not room:
            raise ValueError(
                f'a run asks for {threads} CPUs, and no machine of the Ray cluster has as many; the largest has '
                f'{max(machine.get("CPU", 0) for machine in machines):.0f}'
            )
        self.machines, self.jobs = len(machines), min(jobs or room, room)
        self._task = ray.remote(train_and_log).options(num_cpus=threads, num_gpus=self.share, max_retries=0)
        self._pending: deque[Run] = deque()
        self._tasks: dict[Any, Run] = {}

    @property
    def slots(self) -> int:
        """Number of runs at a time."""
        return self.jobs

    def __str__(self) -> str:
        """Say where runs are trained."""
        machines = '1 machine' if self.machines == 1 else f'{self.machines} machines'
        asked = f'{self.threads} CPU{"s" if self.threads > 1 else ""}' + (f' and {self.share:g} GPU' * bool(self.share))
        return f'on a Ray cluster of {machines}, {self.jobs} at a time, with {asked} each'

    def submit(self, runs: Sequence[Run]) -> None:
        """Queue runs, and give Ray as many as are to run at a time."""
        self._pending.extend(runs)
        self._assign()

    def wait(self) -> list[Ended]:
        """Wait a moment, and return the runs that have ended since."""
        ready, _ = ray.wait(list(self._tasks), num_returns=1, timeout=_POLL_SECONDS)
        ended = []
        for task in ready:
            run = self._tasks.pop(task)
            try:
                ended.append(Ended(run, *ray.get(task)))
            except RayError as error:  # its worker or its machine
                ended.append(Ended(run, Outcome.DIED, f'its worker ended: {str(error).strip().splitlines()[0]}'))
        self._assign()
        return ended

    def stop(self) -> None:
        """Stop what runs; a cluster that was started here ends with this process."""
        self._pending.clear()
        for task in self._tasks:
            ray.cancel(task, force=True)
        self._tasks.clear()

    def _assign(self) -> None:
        while self._pending and len(self._tasks) < self.jobs:
            run = self._pending.popleft()
            self._tasks[self._task.remote(run, Path.cwd(), self.threads)] = run

    def _room(self, machine: dict[str, float]) -> int:
        by_cpu = int(machine.get('CPU', 0) // self.threads)
        return min(by_cpu, int(machine.get('GPU', 0) / self.share)) if self.share else by_cpu


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for minutes."""
    place = re.fullmatch(r'(?:ray://)?(.+):(\d+)', address)
    if place is None:  # 'auto', 'local' or nothing
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=10).close()
    except OSError as error:
        raise ConnectionError(
            f'the Ray cluster at {address!r} cannot be reached ({error.strerror or error}); correct RAY_ADDRESS, or '
            'remove it to start Ray on this machine'
        ) from error
