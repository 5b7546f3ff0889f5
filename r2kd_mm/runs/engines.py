"""Create the engine that trains runs where ``--engine`` says: local processes, Ray or SLURM."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path

from r2kd_mm.runs.grid import Engine
from r2kd_mm.runs.workers import LocalEngine

_PACKAGES = {'ray': 'ray', 'slurm': 'submitit'}  # of an engine, whose name is also that of the extra


def make_engine(args: argparse.Namespace, folder: Path) -> Engine:
    """Create an engine from the options of ``add_engine_options``.

    Args:
        args: Parsed command line.
        folder: Folder of the runs.

    Raises:
        ImportError: The package of the engine (Ray or submitit) is not installed.
        ValueError: An option does not apply to this engine.

    Example:
        >>> from r2kd_mm.engine.arguments import add_engine_options
        >>> parser = argparse.ArgumentParser()
        >>> add_engine_options(parser)
        >>> print(make_engine(parser.parse_args(['--jobs', '2', '--jobs-per-gpu', '0']), Path('runs')))
        on this machine, 2 at a time
    """
    package = _PACKAGES.get(args.engine)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ImportError(
            f'--engine {args.engine} needs {package}, which is not installed; install the extra: pip install '
            f"'r2kd_mm[{args.engine}]'"
        )
    if args.slurm and args.engine != 'slurm':
        raise ValueError(f'--slurm goes with --engine slurm, got --engine {args.engine}')
    if args.engine == 'slurm':
        from r2kd_mm.runs.slurm_engine import SlurmEngine

        if args.jobs_per_gpu != 1:
            raise ValueError(
                '--jobs-per-gpu does not go with --engine slurm, whose jobs ask for GPUs by --slurm gpus_per_node=1'
            )
        return SlurmEngine(folder / 'submitit', args.jobs, args.cpus, args.slurm)
    if args.engine == 'ray':
        from r2kd_mm.runs.ray_engine import RayEngine

        return RayEngine(args.jobs, args.cpus, args.jobs_per_gpu)
    gpus = visible_gpus() if args.jobs_per_gpu else ()
    if not gpus:
        return LocalEngine(args.jobs or 1, args.cpus, gpus)
    room = args.jobs_per_gpu * len(gpus)
    return LocalEngine(min(args.jobs or room, room), args.cpus, gpus)


def visible_gpus() -> tuple[str, ...]:
    """Name the GPUs of this machine as ``CUDA_VISIBLE_DEVICES`` does; it may leave some of them to others."""
    import torch

    names = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')
    count = torch.cuda.device_count()
    return tuple(names[:count]) if len(names) >= count and names[0] else tuple(map(str, range(count)))
