"""Record the conditions of a measurement: date, package versions, git commit, CPU, GPU and load."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ('r2kd_mm', 'torch', 'torchvision', 'numpy', 'mmengine', 'mmcv-lite', 'mmpretrain', 'mmrazor')


def environment() -> dict[str, Any]:
    """Return the conditions of a measurement: date, versions, commit of this package, and machine.

    ``machine`` names the CPU's vector instructions, which affect rounding. ``load`` is the load average over one
    minute; it shows whether other jobs were running.

    Example:
        >>> sorted(environment())[:4]
        ['commit', 'cores', 'date', 'gpu']
    """
    return dict(
        date=datetime.date.today().isoformat(),
        commit=commit(),
        versions=versions(),
        machine=f'{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}',
        processor=processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 2),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def versions() -> dict[str, str | None]:
    """Return the version of Python and of each package that decides a result; ``None`` where it is not installed.

    Example:
        >>> versions()['mmrazor']
        '1.0.0'
    """
    found: dict[str, str | None] = dict(python=platform.python_version())
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """Return the commit of the checkout that this package is imported from.

    A ``+`` follows where there are uncommitted changes. ``None`` means that there is no git, or that the package was
    installed without its history.

    Example:
        >>> found = commit()
        >>> found is None or len(found) in (40, 41)
        True
    """

    def git(*command: str) -> str:
        return subprocess.run(
            ['git', '-C', str(Path(__file__).parent), *command], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git('rev-parse', 'HEAD') + ('+' if git('status', '--porcelain', '--untracked-files=no', '.') else '')
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """Return the name of the processor, or its kind where the system does not tell the name.

    Example:
        >>> processor() != ''
        True
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        return next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    return platform.processor() or platform.machine()
