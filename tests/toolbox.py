"""Run the command-line tools as a user does, or in forks of a process that has PyTorch and MMEngine imported."""

from __future__ import annotations

import gc
import multiprocessing.forkserver
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT = 600  # seconds, after which a tool hangs
# what a tool imports until it trains, and what mmengine imports then
PRELOADED = [
    'toolbox',
    *(f'r2kd_mm.{name}' for name in ('backbones', 'corruptions', 'hooks', 'losses', 'metrics', 'report', 'zoo')),
    *(f'r2kd_mm.datasets.{path.stem}' for path in (ROOT / 'r2kd_mm/datasets').glob('[a-z]*.py')),
    'r2kd_mm.engine.run_config',
    'mmengine.runner',
    *(f'mmpretrain.{name}' for name in ('datasets', 'engine', 'evaluation', 'models', 'visualization')),
    *(f'mmrazor.{name}' for name in ('datasets', 'engine', 'implementations', 'models', 'structures')),
    'matplotlib.backends.backend_agg',
    'setuptools',
]


@dataclass(frozen=True)
class Finished:
    """Exit status and output of a tool that has ended."""

    returncode: int
    stdout: str
    stderr: str


def quick_first(cases: list) -> list:
    """Return parameters: `make test` runs the first one, `make test-all` all. A tuple gives several values."""
    import pytest  # not where a tool runs

    first, *others = cases
    return [
        first,
        *(pytest.param(*case if isinstance(case, tuple) else (case,), marks=pytest.mark.slow) for case in others),
    ]


def environment() -> dict[str, str]:
    """Variables of a tool's process: this Python first, one thread, the package found from any folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    python_path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    return {**os.environ, 'PATH': path, 'PYTHONPATH': python_path, 'OMP_NUM_THREADS': '1'}


def command(name: str, *arguments: str | Path) -> list[str]:
    """The command line of ``tools/<name>``."""
    interpreter = 'bash' if name.endswith('.sh') else sys.executable
    return [interpreter, str(ROOT / 'tools' / name), *map(str, arguments)]


def run(name: str, *arguments: str | Path, cwd: Path | None = None, **variables: str) -> Finished:
    """Run ``tools/<name>`` as a user does, in the folder ``cwd``, with ``variables`` added to its environment."""
    done = subprocess.run(
        command(name, *arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd=cwd,
        env={**environment(), **variables},
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def start(command: list[str], **options) -> subprocess.Popen:
    """Start a tool whose output is read later, and which Ctrl-C reaches.

    Where the tests themselves run in the background of a shell, that signal is ignored, which children inherit.
    """
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def forkserver() -> ForkServerContext:
    """Forks of a process that has imported what the tools import."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOADED)
    here = os.getcwd()
    os.chdir(ROOT)  # where the server imports the package from, whatever folder a test is in
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.chdir(here)
    return context


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def run_forked(name: str, *arguments: str | Path) -> Finished:
    """Run ``tools/<name>`` in a fork of a process that has imported what the tools import, which saves seconds."""
    with tempfile.TemporaryDirectory() as folder:
        return Forked(Path(folder), name, *arguments).finish()


class Forked:
    """``tools/<name>`` in such a fork, which may be stopped; its output is in the files of ``folder``."""

    def __init__(self, folder: Path, name: str, *arguments: str | Path) -> None:
        self.folder, self.name = folder, name
        self.process = forkserver().Process(target=run_here, args=(command(name, *arguments)[1:], str(folder)))
        self.process.start()

    def stop_when(self, ready: Callable[[], bool], how: signal.Signals) -> Finished:
        """Send the signal ``how`` as soon as ``ready()``, and wait for the end."""
        while self.process.is_alive() and not ready():
            time.sleep(0.01)
        if self.process.is_alive():
            os.kill(self.process.pid, how)
        return self.finish()

    def finish(self) -> Finished:
        """Wait for the end."""
        self.process.join(TIMEOUT)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f'{self.name} still runs after {TIMEOUT} s')
        output = (Path(self.folder, name).read_text(errors='replace') for name in ('stdout', 'stderr'))
        return Finished(self.process.exitcode, *output)


def run_here(argv: list[str], folder: str) -> None:
    """Become the tool ``argv[0]``, its output going to files."""
    for stream in (sys.stdout, sys.stderr):
        name = stream.name.strip('<>')
        os.dup2(os.open(Path(folder, name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    gc.freeze()  # mmengine looks for garbage at each data set, and all that was imported is none
    multiprocessing.set_start_method('fork', force=True)  # what a process of its own starts with
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))  # as Python does for a script, and runpy does not
    runpy.run_path(argv[0], run_name='__main__')
